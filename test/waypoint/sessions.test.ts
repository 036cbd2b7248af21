/** Clients that stay at the pod that answered them first, through the real waypoint. */
import t, { type Test } from 'tap'
import { startPod, startWorld, type Answer, type Asked, type Pod, type World } from './world.ts'

const services = [
  { name: 'web', vip: '10.96.0.1' },
  { name: 'v1', vip: '10.96.0.2', waypoint: '' },
  { name: 'v2', vip: '10.96.0.3', waypoint: '' }
]

const route = (persistence: string, weights = [1, 1]): string => `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - sessionPersistence: ${persistence}
      retry: {codes: [503], attempts: 3, backoff: 1ms}
      backendRefs: [{name: v1, port: 80, weight: ${weights[0]}}, {name: v2, port: 80, weight: ${weights[1]}}]
`

interface Shop extends World {
  get(asked?: Asked): Promise<Answer>
}

/** Two pods for each version, who say who they are; with `x-fail: NAME` that one answers 503. */
async function shopOf(t: Test, first: number, config: string): Promise<Shop> {
  const pods: Pod[] = ['v1-a', 'v1-b', 'v2-a', 'v2-b'].map((name, at) => ({
    name,
    address: `127.77.21.${first + at}`,
    port: 8080,
    services: [name.slice(0, 2)]
  }))
  for (const { name, ...pod } of pods) {
    await startPod(t, { name, ...pod }, (request, response) => {
      response.writeHead(request.headers['x-fail'] === name ? 503 : 200).end(name)
    })
  }
  const world = await startWorld(t, { services, pods, config })
  return { ...world, get: asked => world.ask('10.96.0.1:80', { headers: {}, ...asked }) }
}

async function answers(shop: Shop, headers: Record<string, string>): Promise<readonly Answer[]> {
  const all: Answer[] = []
  for (let at = 0; at < 8; at += 1) all.push(await shop.get({ headers }))
  return all
}

const cookieOf = ({ headers }: Answer): string => headers['set-cookie']?.[0]?.split(';')[0] ?? ''

t.test('a cookie leads back to the pod, whichever version has more weight, GA-43', async t => {
  const shop = await shopOf(t, 1, route('{cookie: {name: cart}}'))
  const first = await shop.get()
  t.match(first.headers['set-cookie']?.[0], /^cart=[\w-]{49}; Path=\/; HttpOnly$/)
  for (const { text, headers } of await answers(shop, { cookie: cookieOf(first) })) {
    t.equal(text, first.text)
    t.equal(headers['set-cookie'], undefined, 'the client knows it already')
  }
  t.ok(new Set((await answers(shop, {})).map(({ text }) => text)).size > 1, 'others go anywhere')
})

t.test('a backend that takes nothing new keeps its clients', async t => {
  const before = await shopOf(t, 11, route('{cookie: {name: cart}}', [1, 0]))
  const first = await before.get()
  t.match(first.text, /^v1/)
  const after = await shopOf(t, 21, route('{cookie: {name: cart}}', [0, 1]))
  for (const { text } of await answers(after, { cookie: cookieOf(first) })) t.equal(text, first.text)
  for (const { text } of await answers(after, {})) t.match(text, /^v2/)
})

t.test('a header does the same for clients without cookies', async t => {
  const shop = await shopOf(t, 31, route('{type: Header, header: {name: x-session}}'))
  const first = await shop.get()
  const session = String(first.headers['x-session'])
  t.match(session, /^[\w-]{49}$/)
  for (const { text } of await answers(shop, { 'x-session': session })) t.equal(text, first.text)
})

t.test('where its pod fails a client goes elsewhere, and stays there', async t => {
  const shop = await shopOf(t, 41, route('{cookie: {name: cart}}'))
  const first = await shop.get()
  const moved = await shop.get({ headers: { cookie: cookieOf(first), 'x-fail': first.text } })
  t.equal(moved.status, 200)
  t.not(moved.text, first.text)
  for (const { text } of await answers(shop, { cookie: cookieOf(moved) })) t.equal(text, moved.text)
})

t.test('what a client made up leads nowhere, and it gets a session of its own', async t => {
  const shop = await shopOf(t, 51, route('{cookie: {name: cart}}'))
  const forged = `cart=${'a'.repeat(49)}`
  for (const answer of await answers(shop, { cookie: forged })) {
    t.equal(answer.status, 200)
    t.match(cookieOf(answer), /^cart=/)
  }
})
