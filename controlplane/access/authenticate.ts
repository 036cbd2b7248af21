/** Who calls: a client certificate of our own trust domain, else a token of a service account. */
import { spiffeParts } from '../../shared/identity/spiffe-id.ts'
import type { CallInfo } from '../serve/grpc-server.ts'
import type { Authentication, TokenAuthenticator } from './token.ts'

export async function authenticate(
  info: Pick<CallInfo, 'peer' | 'metadata'>,
  tokens: TokenAuthenticator,
  trustDomain: string
): Promise<Authentication> {
  if (info.peer !== undefined) {
    const { trustDomain: own, namespace, serviceAccount } = spiffeParts(info.peer)
    // A certificate says which account, but not which pod, so it never serves a node agent.
    if (own === trustDomain) {
      return { kind: 'caller', caller: { namespace, serviceAccount, podName: '', podUid: '' } }
    }
  }
  return tokens.authenticate(info.metadata('authorization'))
}
