/** Requests in the form of objects: who is this, and may they. */
import { badRequest, invalid, invalidValue } from '../api-error.ts'
import { apiAudiences, type TokenAuthority, type User } from '../auth/tokens.ts'
import { isObject, listOf, objectOf, textOf, type JsonObject } from '../json.ts'
import { apiVersionOf, type Resource } from '../resources.ts'

/** The answer to a review; its status says what was asked for. */
export function review(
  resource: Resource,
  body: JsonObject,
  user: User,
  authenticate: (token: string) => User | undefined,
  tokens: TokenAuthority
): JsonObject {
  const head = {
    kind: resource.kind,
    apiVersion: apiVersionOf(resource),
    metadata: { creationTimestamp: null }
  }
  const spec = objectOf(body['spec'])
  switch (resource.kind) {
    case 'TokenReview':
      return { ...head, spec, status: reviewToken(spec, authenticate, tokens) }
    case 'SelfSubjectReview':
      return { ...head, status: { userInfo: userInfo(user) } }
    case 'SelfSubjectAccessReview':
    case 'SubjectAccessReview':
    case 'LocalSubjectAccessReview':
      return { ...head, spec, status: reviewAccess(resource.kind, spec) }
    case 'SelfSubjectRulesReview': {
      const all = ['*']
      return {
        ...head,
        spec,
        status: {
          resourceRules: [{ verbs: all, apiGroups: all, resources: all }],
          nonResourceRules: [{ verbs: all, nonResourceURLs: all }],
          incomplete: false
        }
      }
    }
    default:
      throw badRequest(`${resource.kind} cannot be reviewed`)
  }
}

function reviewToken(
  spec: JsonObject,
  authenticate: (token: string) => User | undefined,
  tokens: TokenAuthority
): JsonObject {
  const token = textOf(spec['token'])
  const audiences = listOf(spec['audiences']).map(textOf)
  const wanted = audiences.length === 0 ? apiAudiences : audiences
  if (token === '') throw badRequest('spec.token: Required value')
  const verified = tokens.verify(token, wanted)
  if (verified.kind === 'user') {
    return {
      authenticated: true,
      user: userInfo(verified.user),
      audiences: audiences.length === 0 ? [] : verified.audiences
    }
  }
  // the administrator's token is for this server only
  const other =
    audiences.length === 0 || audiences.some(audience => apiAudiences.includes(audience))
      ? authenticate(token)
      : undefined
  if (other !== undefined) return { authenticated: true, user: userInfo(other) }
  return { user: {}, error: `[invalid bearer token, ${verified.reason}]` }
}

/** RBAC is not enforced: whoever is named may do everything. */
function reviewAccess(kind: string, spec: JsonObject): JsonObject {
  const review = { group: 'authorization.k8s.io', kind }
  const attributes = [spec['resourceAttributes'], spec['nonResourceAttributes']].filter(isObject)
  if (attributes.length !== 1) {
    const detail = 'exactly one of nonResourceAttributes or resourceAttributes must be specified'
    throw invalid(review, '', [invalidValue('spec.resourceAttributes', null, detail)])
  }
  const groups = listOf(spec['groups'])
  if (kind !== 'SelfSubjectAccessReview' && textOf(spec['user']) === '' && groups.length === 0) {
    throw invalid(review, '', [
      invalidValue('spec.user', '', 'at least one of user or group must be specified')
    ])
  }
  if (spec['user'] === 'system:anonymous')
    return { allowed: false, reason: 'requests without credentials are refused' }
  return { allowed: true, reason: 'the lab does not enforce RBAC' }
}

function userInfo(user: User): JsonObject {
  return {
    username: user.name,
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    groups: user.groups,
    ...(user.extra === undefined ? {} : { extra: user.extra })
  }
}
