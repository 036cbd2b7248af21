/** What a RequestAuthentication asks for. Source: Istio's published security/v1beta1/request_authentication.proto. */
import type { PolicyTarget } from '../policy-target.ts'
import type { KeySet } from './key-set.ts'

export interface JwtPolicy {
  readonly namespace: string
  readonly name: string
  readonly targets: readonly PolicyTarget[]
  readonly rules: readonly JwtRule[]
}

export interface JwtRule {
  /** `namespace/name` of its policy, for logs. */
  readonly policy: string
  /** What the claim `iss` has to be. */
  readonly issuer: string
  /** In the form that {@link audienceForm} gives; empty: any will do. */
  readonly audiences: readonly string[]
  readonly keys: KeyLocation
  readonly places: TokenPlaces
  /** Whether the token goes on to the service. */
  readonly forward: boolean
  /** Header for the payload in base64url; undefined: none. */
  readonly payloadHeader: string | undefined
  readonly claimHeaders: readonly ClaimHeader[]
  /** Claims whose text is a list with spaces between. */
  readonly spaceDelimitedClaims: readonly string[]
}

/** Where a token may be. */
export interface TokenPlaces {
  /** Names in lower case; what comes after the prefix is the token. */
  readonly headers: readonly { readonly name: string; readonly prefix: string }[]
  /** Names of query parameters. */
  readonly params: readonly string[]
  readonly cookies: readonly string[]
}

export interface ClaimHeader {
  /** In lower case. */
  readonly header: string
  /** From the outermost claim inwards. */
  readonly claim: readonly string[]
}

/** Where the keys of an issuer come from. */
export type KeyLocation =
  | { readonly kind: 'inline'; readonly keys: KeySet }
  /** `discover`: the URL is that of the OpenID configuration, which names the keys' own. */
  | {
      readonly kind: 'remote'
      readonly url: string
      readonly discover: boolean
      readonly timeoutMs: number
    }
