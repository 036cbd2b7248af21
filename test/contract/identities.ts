/** Who asks: tokens, reviews, refusals. */
import type { Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { pod, type Context } from './context.ts'

function claimsOf(token: string): { [claim: string]: unknown } {
  return JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString('utf8')) as {
    [claim: string]: unknown
  }
}

export async function identityBehaviours(t: Test, { api, namespace }: Context): Promise<void> {
  const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`
  const pods = `/api/v1/namespaces/${namespace}/pods`
  const tokenRequest = (spec: object): object => ({
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec
  })
  const reviewOf = async (token: string, audiences?: string[]): Promise<{ [field: string]: unknown }> => {
    const spec = { token, ...(audiences === undefined ? {} : { audiences }) }
    const { body } = await api.post('/apis/authentication.k8s.io/v1/tokenreviews', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenReview',
      spec
    })
    return body['status'] as { [field: string]: unknown }
  }

  await t.test('a request without valid credentials is refused', async t => {
    const { status, body } = await api.get(pods, { token: 'wrong' })
    t.match({ status, body }, { status: 401, body: { kind: 'Status', reason: 'Unauthorized' } })
  })

  await t.test('a token says whose it is, for whom, until when, and where it is bound', async t => {
    await api.post(pods, pod('owner', {}, { nodeName: 'node1' }))
    const spec = {
      audiences: ['istio-ca'],
      expirationSeconds: 900,
      boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: 'owner' }
    }
    const { status, body } = await api.post(`${accounts}/default/token`, tokenRequest(spec))
    t.equal(status, 201)
    const { uid } = (await api.get(`${pods}/owner`)).body['metadata']
    const claims = claimsOf(body['status'].token)
    t.match(claims, {
      aud: ['istio-ca'],
      sub: `system:serviceaccount:${namespace}:default`,
      'kubernetes.io': {
        namespace,
        serviceaccount: { name: 'default' },
        pod: { name: 'owner', uid },
        node: { name: 'node1' }
      }
    })
    t.equal(Number(claims['exp']) - Number(claims['iat']), 900)
    t.match(body['status'].expirationTimestamp, /Z$/)
    t.match(await reviewOf(body['status'].token, ['istio-ca', 'other']), {
      authenticated: true,
      audiences: ['istio-ca'],
      user: {
        username: `system:serviceaccount:${namespace}:default`,
        groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
        extra: {
          'authentication.kubernetes.io/pod-name': ['owner'],
          'authentication.kubernetes.io/pod-uid': [uid],
          'authentication.kubernetes.io/node-name': ['node1']
        }
      }
    })
    t.match(
      await reviewOf(body['status'].token, ['other']),
      { authenticated: undefined, error: String },
      'for another audience it is worth nothing'
    )
    await api.delete(`${pods}/owner`, { gracePeriodSeconds: 0 })
  })

  await t.test('a token ends with the pod that it is bound to', async t => {
    await api.post(pods, pod('short'))
    const { body } = await api.post(
      `${accounts}/default/token`,
      tokenRequest({ boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: 'short' } })
    )
    await api.delete(`${pods}/short`)
    // The real server looks into a cache of pods that may lag, and remembers for ten seconds what it found.
    let after = await reviewOf(body['status'].token)
    await eventually('the token is refused', async () => {
      after = await reviewOf(body['status'].token)
      return after['authenticated'] !== true
    })
    t.not(after['authenticated'], true)
  })

  await t.test('a token for something that is not there is refused', async t => {
    t.match(await api.post(`${accounts}/nobody/token`, tokenRequest({})), { status: 404 })
    t.match(
      await api.post(
        `${accounts}/default/token`,
        tokenRequest({ boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name: 'nothing' } })
      ),
      { status: 404 }
    )
    t.match(await api.post(`${accounts}/default/token`, tokenRequest({ expirationSeconds: 10 })), {
      status: 422
    })
  })

  await t.test('a forged token is not authenticated', async t => {
    const { body } = await api.post(`${accounts}/default/token`, tokenRequest({}))
    const [header = '', claims = '', signature = ''] = (body['status'].token as string).split('.')
    const other = Buffer.from(
      JSON.stringify({ ...claimsOf(body['status'].token), sub: 'system:serviceaccount:kube-system:default' })
    ).toString('base64url')
    const none = Buffer.from('{"alg":"none"}').toString('base64url')
    for (const token of [
      `${header}.${other}.${signature}`,
      `${none}.${claims}.`,
      `${header}.${claims}.`,
      'x.y.z',
      'text'
    ]) {
      t.not((await reviewOf(token))['authenticated'], true)
      t.equal((await api.get('/api/v1/namespaces/default', { token })).status, 401)
    }
  })

  await t.test('a review of oneself names the administrator, and may do everything', async t => {
    const self = await api.post('/apis/authentication.k8s.io/v1/selfsubjectreviews', {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'SelfSubjectReview'
    })
    t.match(self, { status: 201, body: { status: { userInfo: { username: String } } } })
    t.ok(self.body['status'].userInfo.groups.includes('system:masters'))
    const access = await api.post('/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectAccessReview',
      spec: { resourceAttributes: { verb: 'delete', resource: 'pods', namespace } }
    })
    t.match(access, { status: 201, body: { status: { allowed: true } } })
  })

  await t.test('a review of somebody names whom, and for what', async t => {
    const review = async (spec: object): Promise<{ status: number; body: { [field: string]: unknown } }> => {
      const kind = { apiVersion: 'authorization.k8s.io/v1', kind: 'SubjectAccessReview' }
      return api.post('/apis/authorization.k8s.io/v1/subjectaccessreviews', { ...kind, spec })
    }
    const resourceAttributes = { verb: 'get', resource: 'pods', namespace }
    const admin = await review({ user: 'someone', groups: ['system:masters'], resourceAttributes })
    t.match(admin, { status: 201, body: { spec: { user: 'someone' }, status: { allowed: true } } })
    const path = await review({
      groups: ['system:masters'],
      nonResourceAttributes: { verb: 'get', path: '/metrics' }
    })
    t.match(path, { status: 201, body: { status: { allowed: true } } })
    t.match(await review({ user: 'system:anonymous', resourceAttributes }), {
      body: { status: { allowed: false } }
    })
    t.match(await review({ resourceAttributes }), { status: 422 }, 'nobody is named')
    t.match(await review({ user: 'someone' }), { status: 422 }, 'nothing is asked')
  })
}
