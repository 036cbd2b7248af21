/** Connections to one port of a pod: which request gets which, who waits, and what limits do. */
import t from 'tap'
import type { BodySink } from '../../../waypoint/http/body.ts'
import type { ClientConnection, ClientConnectionEvents } from '../../../waypoint/http/exchange.ts'
import { CircuitBreaker } from '../../../waypoint/resilience/circuit-breaker.ts'
import { noLimits, usualConnections, type Limits } from '../../../waypoint/traffic-policy.ts'
import { Place, Waiting, type Terms, type UpstreamProtocol } from '../../../waypoint/upstream/place.ts'

/** A connection whose requests are begun and ended by the test. */
class Connection implements ClientConnection {
  active = 0
  draining = false
  readonly #most: number
  readonly #events: ClientConnectionEvents

  constructor(events: ClientConnectionEvents, most: number) {
    this.#events = events
    this.#most = most
  }

  get usable(): boolean {
    return !this.draining && this.active < this.#most
  }

  send(): BodySink {
    this.active += 1
    return undefined as never // nobody writes here
  }

  end(): void {
    this.active -= 1
    if (this.draining) this.#events.closed()
    else this.#events.idle()
  }

  drain(): void {
    this.draining = true
    if (this.active === 0) this.#events.closed()
  }

  destroy(): void {
    this.draining = true
    this.#events.closed()
  }
}

/** Dials are answered by the test. */
function placeOf(protocol: UpstreamProtocol) {
  const dials: { answer: () => Promise<Connection>; fail: () => Promise<void> }[] = []
  const place = new Place(protocol, events => {
    const { promise, resolve, reject } = Promise.withResolvers<ClientConnection>()
    dials.push({
      async answer() {
        const made = new Connection(events, protocol === 'http1' ? 1 : 100)
        resolve(made)
        await settled()
        return made
      },
      async fail() {
        reject(new Error('nobody answers'))
        await settled()
      }
    })
    return promise
  })
  return { place, dials }
}

const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve))

/** Takes for a request, and sends it once it can. */
function request(place: Place, terms?: Terms) {
  const told: { connection?: Connection; error?: string; waiting?: Waiting; refused?: true } = {}
  const send = (connection: ClientConnection): void => {
    told.connection = connection as Connection
    told.connection.send()
  }
  const taken = place.take(terms)
  if (taken === 'overflow') told.refused = true
  else if (taken instanceof Waiting) {
    told.waiting = taken
    taken.settle(send, error => (told.error = (error as Error).message))
  } else send(taken)
  return told
}

function limited(most: Partial<Limits>, more: Partial<Terms> = {}) {
  const counts = new CircuitBreaker({ ...noLimits, ...most })
  const terms: Terms = { counts, ...usualConnections, tls: undefined, ...more }
  const used = (): object => ({ connections: counts.count('connections'), pending: counts.count('pending') })
  return { terms, used }
}

t.test('a connection of HTTP/1.1 carries one request at a time, and is used again', async t => {
  const { place, dials } = placeOf('http1')
  const first = request(place)
  const second = request(place)
  t.equal(dials.length, 2, 'each gets its own')
  const one = await dials[0]?.answer()
  t.equal(first.connection, one)
  t.equal(second.connection, undefined)
  one?.end()
  t.equal(second.connection, one, 'whoever waits takes what is free first')
  const other = await dials[1]?.answer()
  t.equal(request(place).connection, other, 'and what comes later is kept')
})

t.test('one connection of HTTP/2 is dialled for all that wait', async t => {
  const { place, dials } = placeOf('http2')
  const requests = [request(place), request(place), request(place)]
  t.equal(dials.length, 1)
  const connection = await dials[0]?.answer()
  t.strictSame(
    requests.map(each => each.connection === connection),
    [true, true, true]
  )
})

t.test('a dial that fails is told to one, and to all where nothing else is there', async t => {
  const alone = placeOf('http2')
  const waiting = [request(alone.place), request(alone.place)]
  await alone.dials[0]?.fail()
  t.strictSame(
    waiting.map(({ error }) => error),
    ['nobody answers', 'nobody answers']
  )
  t.equal(alone.place.unused, true)
  const beside = placeOf('http1')
  const [first, second] = [request(beside.place), request(beside.place)]
  await beside.dials[1]?.fail()
  t.equal(first.error, 'nobody answers', 'the first is told; the dial that is left is for the second')
  t.equal(second.error, undefined)
  const connection = await beside.dials[0]?.answer()
  t.equal(second.connection, connection)
})

t.test('who cancels is told nothing, and its connection serves the next', async t => {
  const { place, dials } = placeOf('http1')
  const gone = request(place)
  gone.waiting?.cancel()
  const connection = await dials[0]?.answer()
  t.strictSame([gone.connection, gone.error], [undefined, undefined])
  t.equal(request(place).connection, connection)
  t.equal(dials.length, 1)
})

t.test('beyond the connections that there may be requests wait', async t => {
  const { place, dials } = placeOf('http1')
  const { terms, used } = limited({ connections: 1, pending: 1 })
  const first = request(place, terms)
  const connection = await dials[0]?.answer()
  const second = request(place, terms)
  t.equal(dials.length, 1)
  t.strictSame(used(), { connections: 1, pending: 1 })
  t.equal(request(place, terms).refused, true, 'and beyond those that may wait they are refused')
  connection?.end()
  t.equal(second.connection, connection)
  t.equal(first.connection, connection)
  connection?.destroy()
  t.strictSame(used(), { connections: 0, pending: 0 }, 'nothing stays counted')
})

t.test('when the connection breaks that others wait for, another one is dialled', async t => {
  const { place, dials } = placeOf('http1')
  const { terms } = limited({ connections: 1 })
  request(place, terms)
  const broken = await dials[0]?.answer()
  const second = request(place, terms)
  broken?.destroy()
  t.equal(dials.length, 2)
  t.equal((await dials[1]?.answer()) === second.connection, true)
})

t.test('a pod always gets one connection, whatever others of its service have', async t => {
  const { terms } = limited({ connections: 0 })
  const { place, dials } = placeOf('http1')
  const only = request(place, terms)
  const connection = await dials[0]?.answer()
  t.equal(only.connection, connection)
})

t.test('after its number of requests a connection is not used again', async t => {
  for (const protocol of ['http1', 'http2'] as const) {
    const { place, dials } = placeOf(protocol)
    const { terms } = limited({}, { maxRequestsPerConnection: 2 })
    const first = request(place, terms)
    const connection = await dials[0]?.answer()
    t.equal(first.connection, connection)
    connection?.end()
    t.equal(request(place, terms).connection, connection)
    t.equal(connection?.draining, false)
    connection?.end()
    t.equal(connection?.draining, true, protocol)
    request(place, terms)
    t.equal(dials.length, 2)
  }
})

t.test('beyond the streams that one may have another connection is dialled', async t => {
  const { place, dials } = placeOf('http2')
  const { terms } = limited({}, { maxConcurrentStreams: 1 })
  const first = request(place, terms)
  const connection = await dials[0]?.answer()
  t.equal(first.connection, connection)
  const second = request(place, terms)
  t.equal(dials.length, 2)
  connection?.end()
  t.equal(second.connection, connection, 'unless a stream ends first')
})

t.test('what nobody used for its time is closed, by its own terms', async t => {
  const { place, dials } = placeOf('http1')
  const { terms } = limited({}, { idleMs: 10 })
  request(place, terms)
  const connection = await dials[0]?.answer()
  const now = performance.now()
  place.closeIdle(now + 60_000, 3_600_000)
  t.equal(connection?.draining, false, 'not while a request is under way')
  connection?.end()
  place.closeIdle(now + 60_000, 3_600_000)
  t.equal(connection?.draining, true)
  t.equal(place.unused, true)
})

t.test('at the end what is in use ends with its request', async t => {
  const { place, dials } = placeOf('http1')
  request(place)
  const connection = await dials[0]?.answer()
  place.close()
  t.equal(connection?.draining, false)
  connection?.end()
  t.equal(connection?.draining, true)
})
