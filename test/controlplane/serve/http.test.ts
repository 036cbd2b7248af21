import t from 'tap'
import { guarded } from '../../../controlplane/serve/http.ts'
import { TokenAuthenticator } from '../../../controlplane/access/token.ts'
import { HttpProblem, type AdminRequest, type Answer } from '../../../shared/runtime/admin-http.ts'
import { settings } from '../world.ts'

const tokens = new TokenAuthenticator({
  audiences: ['istio-ca'],
  clock: { now: () => 0 },
  review: async token => {
    const [namespace, name] = token.split('.')
    if (name === undefined) return { authenticated: false, error: 'no such token' }
    const username = `system:serviceaccount:${namespace}:${name}`
    return {
      authenticated: true,
      audiences: ['istio-ca'],
      user: { username, groups: ['system:serviceaccounts'] }
    }
  }
})

async function ask(
  remoteAddress: string,
  authorization?: string,
  debugAuthentication = true
): Promise<string> {
  const config = { debugAuthentication, mesh: settings } as Parameters<typeof guarded>[0]['config']
  const handle = guarded({ config, tokens }, () => ({ body: 'what the mesh holds' }))
  const request = { remoteAddress, headers: authorization === undefined ? {} : { authorization } }
  try {
    const answer = await handle(request as AdminRequest)
    return String((answer as Answer).body)
  } catch (error) {
    if (error instanceof HttpProblem) return `${error.status} ${error.message}`
    throw error
  }
}

t.test('who may look inside', async t => {
  const held = 'what the mesh holds'
  for (const local of ['127.0.0.1', '::1', '::ffff:127.0.0.1']) t.equal(await ask(local), held, local)
  t.match(await ask('10.0.0.1'), /^401 /, 'others need a token')
  t.match(await ask('2001:db8::1', 'Bearer x'), /^401 .*no such token/, 'a good one')
  t.match(await ask('10.0.0.1', 'Bearer shop.web'), /^403 .*istio-system/, 'of the system namespace')
  t.equal(await ask('10.0.0.1', 'Bearer istio-system.ztunnel'), held)
  t.match(await ask(''), /^401 /, 'an address that is not known is not local')
  t.equal(await ask('10.0.0.1', undefined, false), held, 'unless the operator says otherwise')
})
