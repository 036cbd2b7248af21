/** Asks an authorizer about one request or connection, in the time that it has. */
import { messageOf } from '../../shared/runtime/errors.ts'
import type { LocalReply } from '../local-reply.ts'
import { within } from '../within.ts'
import { failureHeader, noEdits, type Changes } from './changes.ts'
import type { Sender, Subject } from './check.ts'
import { checkGrpc } from './grpc-check.ts'
import { checkHttp } from './http-check.ts'
import type { UsableProvider } from './providers.ts'

export type Asked =
  /** `failure`: why it could not be asked, where requests pass all the same. */
  | { readonly kind: 'allowed'; readonly changes: Changes; readonly failure?: string }
  | { readonly kind: 'refused'; readonly reply: LocalReply; readonly failure?: string }

/**
 * Never throws. `signal`: nobody waits for the answer any more; then it is refused. A denial is told in the
 * authorizer's words; flag and details are those of Envoy's ext_authz.
 */
export async function ask(
  provider: UsableProvider,
  subject: Subject,
  sender: Sender,
  signal: AbortSignal
): Promise<Asked> {
  const { name, timeoutMs, failOpen, statusOnError } = provider
  try {
    const outcome = await within(timeoutMs, signal, ending =>
      provider.kind === 'http'
        ? checkHttp(provider, subject, sender, ending)
        : checkGrpc(provider, subject, sender, ending)
    )
    if (outcome.kind === 'allowed') return outcome
    const { status, headers, body } = outcome
    return { kind: 'refused', reply: { status, headers, body, flag: 'UAEX', details: 'ext_authz_denied' } }
  } catch (error) {
    const failure = `authorizer ${name}: ${messageOf(error)}`
    if (failOpen && !signal.aborted) return { kind: 'allowed', changes: unasked, failure }
    const reply = { status: statusOnError, body: '', flag: 'UAEX', details: 'ext_authz_error' }
    return { kind: 'refused', reply, failure }
  }
}

const unasked: Changes = {
  request: [{ how: 'set', name: failureHeader, value: 'true' }],
  remove: [],
  query: noEdits,
  response: []
}
