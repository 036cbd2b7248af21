/** Takes objects out of the cluster, and waits until they are gone. */
import type { KubeClient } from '../../shared/kube/client.ts'
import { isNotFound } from '../../shared/kube/errors.ts'
import { waiting } from '../watch.ts'
import { Kinds } from './kinds.ts'
import { nameOf, type Manifest } from './manifest.ts'

export interface RemoveOptions {
  /** `Orphan` leaves the pods of a controller running, for the next one to take over. */
  readonly propagation?: 'Foreground' | 'Background' | 'Orphan'
  readonly limit: () => AbortSignal
  /** How long an object may take to go; default two minutes. */
  readonly patienceMs?: number
}

/** False when it was not there. Throws when it is still there at the end of the patience. */
export async function remove(
  client: KubeClient,
  object: Manifest,
  { propagation = 'Background', limit, patienceMs = 120_000 }: RemoveOptions
): Promise<boolean> {
  const type = await new Kinds(client).find(object, limit())
  if (type === undefined) return false
  const { namespace, name } = object.metadata
  const ref = { namespace, name }
  const uid = (await client.find(type, ref, limit()))?.metadata.uid
  if (uid === undefined) return false
  try {
    await client.delete(type, ref, { propagationPolicy: propagation, uid, signal: limit() })
  } catch (error) {
    if (isNotFound(error)) return false
    throw error
  }
  const late = AbortSignal.timeout(patienceMs)
  while ((await client.find(type, ref, limit()))?.metadata.uid === uid) {
    if (late.aborted) throw new Error(`${nameOf(object)} is still there after ${patienceMs / 1000} s`)
    await waiting(200, limit())
  }
  return true
}
