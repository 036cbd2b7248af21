/** Requests that their route wants sent again, through pods that fail in every way. */
import t, { type Test } from 'tap'
import type http from 'node:http'
import { eventually } from '../support/eventually.ts'
import { startPod, startWorld, type Answer, type Asked, type Pod } from './world.ts'

const services = [{ name: 'web', vip: '10.96.0.1' }]

const config = `
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{kind: Service, group: '', name: web}]
  rules:
    - matches: [{path: {value: /plain}}]
      backendRefs: [{name: web, port: 80}]
    - retry: {codes: [503], attempts: 3, backoff: 1ms}
      timeouts: {request: 5s, backendRequest: 200ms}
      backendRefs: [{name: web, port: 80}]
`

interface World {
  get(path: string, asked?: Asked): Promise<Answer>
  readonly lines: string[]
  /** What the pods were sent, one text an attempt. */
  readonly sent: string[]
  readonly gone: string[]
}

/** Pods that do what `x-do` asks for in turn: an attempt takes the next word, the last one stays. */
async function worldOf(t: Test, first: number, pods = 1): Promise<World> {
  const sent: string[] = []
  const gone: string[] = []
  const handler: http.RequestListener = (request, response) => {
    const attempt = Number(request.headers['x-envoy-attempt-count'])
    const words = String(request.headers['x-do']).split(' ')
    const word = words[Math.min(attempt, words.length) - 1] ?? ''
    let body = ''
    response.on('close', () => void (response.writableFinished || gone.push(word)))
    if (word === 'early') response.writeHead(503).end('early')
    request.on('error', () => undefined)
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString('latin1')
      if (word === 'cut-body') request.socket.destroy()
    })
    request.on('end', () => {
      sent.push(`${request.method} ${body.length > 20 ? body.length : body}`.trimEnd())
      if (word === 'cut') request.socket.destroy()
      else if (/^\d+$/.test(word)) response.writeHead(Number(word)).end(`answer ${word}`)
    })
  }
  const all: Pod[] = Array.from({ length: pods }, (_, at) => ({
    name: `web-${at}`,
    address: `127.77.10.${first + at}`,
    port: 8080,
    services: ['web']
  }))
  for (const pod of all) await startPod(t, pod, handler)
  const world = await startWorld(t, { services, pods: all, config })
  const get = async (path: string, asked: Asked = {}): Promise<Answer> =>
    world.ask('10.96.0.1:80', { ...asked, path })
  return { get, lines: world.lines, sent, gone }
}

const doing = (words: string, more: Asked = {}): Asked => ({ ...more, headers: { 'x-do': words } })

t.test('an answer of the list is not passed on while there is another try', async t => {
  const world = await worldOf(t, 1)
  t.match(await world.get('/', doing('503 503 200')), { status: 200, text: 'answer 200' })
  t.equal(world.sent.length, 3)
  t.match(await world.get('/', doing('503')), { status: 503, text: 'answer 503' }, 'the last one is')
  t.equal(world.sent.length, 3 + 4)
  await eventually('the log says so', () => world.lines.some(line => line.includes(' 503 URX via_upstream ')))
  t.match(await world.get('/', doing('502 200')), { status: 502 }, 'another status')
  t.match(await world.get('/plain', doing('503 200')), { status: 503 }, 'a rule that says nothing')
  t.equal(world.sent.length, 3 + 4 + 2)
})

t.test('connections that break, attempts that take too long: with another pod, GA-41, GA-42', async t => {
  const world = await worldOf(t, 2, 2)
  t.match(await world.get('/', doing('cut 200')), { status: 200 })
  t.match(await world.get('/', doing('hang 200')), { status: 200 })
  t.ok(world.gone.includes('hang'), 'the slow one has been let go')
  t.match(await world.get('/', doing('hang')), { status: 504 }, 'four times 200 ms')
  t.match(await world.get('/plain', doing('cut 200')), { status: 503 })
})

t.test('a body is sent again whole, VS-25', async t => {
  const world = await worldOf(t, 4)
  const body = 'x'.repeat(60_000)
  t.match(await world.get('/', doing('503 cut 200', { method: 'POST', body })), { status: 200 })
  t.strictSame(world.sent, ['POST 60000', 'POST 60000', 'POST 60000'])
  world.sent.length = 0
  t.match(await world.get('/', doing('503 200', { method: 'POST', body: 'ab' })), { status: 200 })
  t.strictSame(world.sent, ['POST ab', 'POST ab'])
  t.match(await world.get('/', doing('early 200', { method: 'POST', body })), { status: 200 })
})

t.test('one that is longer than what is kept is sent once', async t => {
  const world = await worldOf(t, 5)
  const body = 'x'.repeat(200_000)
  t.match(await world.get('/', doing('503 200', { method: 'POST', body })), {
    status: 503,
    text: 'answer 503'
  })
  t.strictSame(world.sent, ['POST 200000'])
  t.match(await world.get('/', doing('cut-body 200', { method: 'POST', body })), { status: 503 })
})
