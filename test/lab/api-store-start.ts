/** A store of the test's own, with a client for it. */
import { startApiStore, type ApiStore, type ApiStoreOptions } from '../../lab/api-store/api-store.ts'
import { Api, type ApiAccess } from '../contract/api.ts'

export interface Started {
  readonly store: ApiStore
  readonly access: ApiAccess
  readonly api: Api
}

/** Ends with the test. */
export async function startStore(
  t: { teardown(fn: () => Promise<void>): unknown },
  options: Partial<ApiStoreOptions> = {}
): Promise<Started> {
  const store = await startApiStore({ listeners: [{ host: '127.0.0.1', port: 0 }], ...options })
  const server = `https://127.0.0.1:${store.addresses[0]?.port ?? 0}`
  const access = { server, token: store.adminToken, caPem: store.caPem }
  const api = new Api(access)
  t.teardown(async () => {
    api.close()
    await store.close()
  })
  return { store, access, api }
}
