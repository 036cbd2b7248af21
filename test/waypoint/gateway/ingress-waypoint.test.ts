/** Ingress to a service whose waypoint has its say: through it where the service wants that, else straight to its pods. */
import t, { type Test } from 'tap'
import { eventually } from '../../support/eventually.ts'
import { startPod, startWorld, type Pod, type ServiceOptions, type World } from '../world.ts'
import { at, freePort, gateway, httpRoute, startGateway, type GatewayWorld } from './world.ts'

const web: Pod = { name: 'web', address: '127.77.32.1', port: 8080, services: ['web', 'other'] }
const services: readonly ServiceOptions[] = [
  { name: 'web', vip: '10.96.5.1' },
  { name: 'other', vip: '10.96.5.2' }
]
const waypointService = { name: 'waypoint', vip: '10.96.5.9', port: 15_008, waypoint: '' }

/** A route of the waypoint that leaves its mark on every answer. */
const mark = `
kind: HTTPRoute
metadata: { namespace: shop, name: marked }
spec:
  parentRefs: [{ group: '', kind: Service, name: web }]
  rules:
    - backendRefs: [{ name: web, port: 80 }]
      filters:
        - type: ResponseHeaderModifier
          responseHeaderModifier: { set: [{ name: x-seen-by, value: waypoint }] }
`

async function startBoth(
  t: Test,
  port: number,
  { ready = true, ingress = true } = {}
): Promise<{ waypoint: World; edge: GatewayWorld }> {
  await startPod(
    t,
    web,
    ({ headers }, answer) => void answer.end(`x-forwarded-for: ${String(headers['x-forwarded-for'])}`)
  )
  const waypoint = await startWorld(t, {
    services,
    pods: [web],
    config: mark,
    env: { UNDERPASS_ACCESS_LOG: 'all' }
  })
  const pods: readonly Pod[] = ready
    ? [
        web,
        {
          name: 'waypoint',
          address: '127.0.0.1',
          port: waypoint.app.addresses.get('hbone')?.port ?? 0,
          services: ['waypoint']
        }
      ]
    : [web]
  const edge = await startGateway(t, {
    services: [
      waypointService,
      ...services.map(service => ({
        ...service,
        waypoint: 'waypoint',
        ...(ingress ? { ingress: true as const } : {})
      }))
    ],
    pods,
    objects: [
      gateway({ port }),
      httpRoute('web', [at('web', 'web.example')], 'web', { matches: [{ path: { value: '/public' } }] }),
      httpRoute('other', [at('web', 'other.example')], 'other')
    ]
  })
  return { waypoint, edge }
}

t.test('the routes of the gateway, then those of the waypoint', async t => {
  const port = await freePort()
  const { waypoint, edge } = await startBoth(t, port)
  const answer = await edge.get(port, 'web.example', { path: '/public' })
  t.match(answer, { status: 200, text: 'x-forwarded-for: 127.0.0.1', headers: { 'x-seen-by': 'waypoint' } })
  t.match(await edge.get(port, 'web.example', { path: '/' }), { status: 404 })
  await eventually('the waypoint has told of it', () => waypoint.lines.length === 1, { everyMs: 20 })
  t.match(
    waypoint.lines[0],
    /"GET \/public HTTP\/1.1" 200 .*inbound-vip\|80\|http\|web\.shop\.svc\.cluster\.local/
  )

  const other = await edge.get(port, 'other.example')
  t.match(other, { status: 200, headers: { 'x-seen-by': undefined } }, 'another service has its own tunnels')
  await eventually('the waypoint has told of it', () => waypoint.lines.length === 2, { everyMs: 20 })
  t.match(waypoint.lines[1], /inbound-vip\|80\|http\|other\.shop/)
})

t.test('a waypoint without pods is not gone around', async t => {
  const port = await freePort()
  const { edge } = await startBoth(t, port, { ready: false })
  t.match(await edge.get(port, 'web.example', { path: '/public' }), {
    status: 503,
    text: 'no healthy upstream'
  })
})

t.test('without the wish of the service the gateway goes straight to its pods', async t => {
  const port = await freePort()
  const { waypoint, edge } = await startBoth(t, port, { ingress: false })
  const answer = await edge.get(port, 'web.example', { path: '/public' })
  t.match(answer, { status: 200, headers: { 'x-seen-by': undefined } })
  t.strictSame(waypoint.lines, [])
})
