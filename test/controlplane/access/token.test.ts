import t from 'tap'
import { TokenAuthenticator, type Authentication } from '../../../controlplane/access/token.ts'
import type { TokenReview } from '../../../shared/kube/review-api.ts'

type Status = TokenReview['status']

const good: NonNullable<Status> = {
  authenticated: true,
  audiences: ['istio-ca'],
  user: {
    username: 'system:serviceaccount:istio-system:ztunnel',
    groups: ['system:serviceaccounts', 'system:serviceaccounts:istio-system', 'system:authenticated'],
    extra: {
      'authentication.kubernetes.io/pod-name': ['ztunnel-x'],
      'authentication.kubernetes.io/pod-uid': ['uid-1']
    }
  }
}
const caller = { namespace: 'istio-system', serviceAccount: 'ztunnel', podName: 'ztunnel-x', podUid: 'uid-1' }

function authenticator(review: (token: string) => Promise<Status>): {
  ask: (header: string | undefined) => Promise<Authentication>
  asked: string[]
  clock: { time: number }
} {
  const asked: string[] = []
  const clock = { time: 1_000_000_000_000 }
  const tokens = new TokenAuthenticator({
    audiences: ['istio-ca'],
    clock: { now: () => clock.time },
    review: async (token, audiences) => {
      if (audiences.join() !== 'istio-ca') throw new Error('the API server must be told the audience')
      asked.push(token)
      return review(token)
    }
  })
  return { ask: async header => tokens.authenticate(header), asked, clock }
}

t.test('what the API server says, and what becomes of it', async t => {
  const rows: readonly { name: string; status: Status; expect: object }[] = [
    { name: 'a bound token', status: good, expect: { kind: 'caller', caller } },
    {
      name: 'a token of no pod',
      status: { ...good, user: { ...good.user, extra: {} } },
      expect: { kind: 'caller', caller: { ...caller, podName: '', podUid: '' } }
    },
    {
      name: 'not authenticated',
      status: { authenticated: false, error: 'token expired' },
      expect: { kind: 'refused', reason: /token expired/ }
    },
    { name: 'no answer', status: undefined, expect: { kind: 'refused' } },
    {
      name: 'another audience',
      status: { ...good, audiences: ['api'] },
      expect: { kind: 'refused', reason: /istio-ca/ }
    },
    {
      name: 'an API server that knows no audiences',
      status: { authenticated: true, user: good.user ?? {} },
      expect: { kind: 'refused' }
    },
    {
      name: 'a person',
      status: { ...good, user: { username: 'alice', groups: ['system:authenticated'] } },
      expect: { kind: 'refused', reason: /service account/ }
    },
    {
      name: 'a person with the name of an account',
      status: { ...good, user: { ...good.user, groups: ['system:authenticated'] } },
      expect: { kind: 'refused' }
    },
    {
      name: 'a name that has more parts',
      status: { ...good, user: { ...good.user, username: 'system:serviceaccount:a:b:c' } },
      expect: { kind: 'refused' }
    }
  ]
  for (const { name, status, expect } of rows) {
    t.match(await authenticator(async () => status).ask('Bearer secret'), expect, name)
  }
})

t.test('headers', async t => {
  const { ask, asked } = authenticator(async () => good)
  for (const header of [undefined, '', 'Bearer', 'Basic secret', 'secret', `Bearer ${'x'.repeat(20_000)}`]) {
    t.match(await ask(header), { kind: 'refused' }, header?.slice(0, 20) ?? 'none')
  }
  t.strictSame(asked, [], 'nobody is asked about what is no token')
  t.match(await ask('bearer secret'), { kind: 'caller' }, 'the scheme in any case of letters')
})

t.test('an answer is remembered for a minute at most', async t => {
  const { ask, asked, clock } = authenticator(async () => good)
  await Promise.all([ask('Bearer a'), ask('Bearer a'), ask('Bearer a')])
  t.strictSame(asked, ['a'], 'calls at one time ask once')
  clock.time += 59_000
  await ask('Bearer a')
  await ask('Bearer b')
  t.strictSame(asked, ['a', 'b'], 'each token for itself')
  clock.time += 2000
  await ask('Bearer a')
  t.strictSame(asked, ['a', 'b', 'a'])
})

t.test('nor for longer when the clock is set back meanwhile', async t => {
  let status: Status = good
  const { ask, clock } = authenticator(async () => status)
  await ask('Bearer a')
  status = { authenticated: false }
  clock.time -= 86_400_000
  t.match(await ask('Bearer a'), { kind: 'refused' })
})

t.test('but not longer than the token lives', async t => {
  const { ask, asked, clock } = authenticator(async () => good)
  const claims = Buffer.from(JSON.stringify({ exp: clock.time / 1000 + 10 })).toString('base64url')
  await ask(`Bearer x.${claims}.y`)
  clock.time += 11_000
  await ask(`Bearer x.${claims}.y`)
  t.equal(asked.length, 2)
})

t.test('a refusal is not remembered', async t => {
  let status: Status = { authenticated: false }
  const { ask } = authenticator(async () => status)
  t.match(await ask('Bearer a'), { kind: 'refused' })
  status = good
  t.match(await ask('Bearer a'), { kind: 'caller' })
})

t.test('an API server that cannot be asked is no refusal, and the token stays out of the text', async t => {
  const { ask } = authenticator(async () => {
    throw new Error('POST failed with body {"token":"secret"}')
  })
  const answer = await ask('Bearer secret')
  t.equal(answer.kind, 'unavailable')
  t.notMatch(JSON.stringify(answer), 'secret')
})
