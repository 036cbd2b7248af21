/** Why a token is not accepted, in the words that Envoy's users know. */
import type { LocalReply } from '../local-reply.ts'

export const refusals = {
  form: 'Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections',
  headerEncoding: 'Jwt header is an invalid Base64url encoded',
  headerJson: 'Jwt header is an invalid JSON',
  algorithmMissing: 'Jwt header [alg] field is required and must be a string',
  algorithm: 'Jwt header [alg] is not supported',
  keyId: 'Jwt header [kid] field is not a string',
  payloadEncoding: 'Jwt payload is an invalid Base64url encoded',
  payloadJson: 'Jwt payload is an invalid JSON',
  issuerType: 'Jwt payload [iss] field is not a string',
  subjectType: 'Jwt payload [sub] field is not a string',
  audienceType: 'Jwt payload [aud] field is not a string or string list',
  expiryType: 'Jwt payload [exp] field is not an integer',
  notBeforeType: 'Jwt payload [nbf] field is not an integer',
  signatureEncoding: 'Jwt signature is an invalid Base64url encoded',
  issuer: 'Jwt issuer is not configured',
  expired: 'Jwt is expired',
  notYetValid: 'Jwt not yet valid',
  audience: 'Audiences in Jwt are not allowed',
  fetch: 'Jwks remote fetch is failed',
  noKey: "Jwks doesn't have key to match kid or alg from Jwt",
  signature: 'Jwt verification fails'
} as const

export type Refusal = (typeof refusals)[keyof typeof refusals]

/** The answer of a request that is refused: all but the headers can be made of the words. */
export function refusalReply(refusal: Refusal): Pick<LocalReply, 'status' | 'body' | 'flag' | 'details'> {
  return {
    status: refusal === refusals.audience ? 403 : 401,
    body: refusal,
    flag: '-',
    details: `jwt_authn_access_denied{${refusal.replaceAll(' ', '_')}}`
  }
}
