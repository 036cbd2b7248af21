/** RateLimitPolicies of a gateway: for whoever comes from outside, as the control plane sends and changes them. */
import t from 'tap'
import { startPod, type Pod } from '../world.ts'
import { at, freePort, gateway, httpRoute, startGateway, type GatewayObject } from './world.ts'

const services = [{ name: 'one', vip: '10.96.3.1' }]
const pod: Pod = { name: 'one', address: '127.77.35.1', port: 8080, services: ['one'] }

const policy = (limit: Readonly<Record<string, unknown>>): GatewayObject => ({
  kind: 'RateLimitPolicy',
  name: 'few',
  spec: {
    targetRefs: [{ group: 'gateway.networking.k8s.io', kind: 'Gateway', name: 'edge' }],
    limits: [{ requests: 2, per: '1h', ...limit }]
  }
})

t.test('limits by host hold, also when they are sent again, until they are gone', async t => {
  const port = await freePort()
  await startPod(t, pod, (_, answer) => void answer.end('served'))
  const key = [{ type: 'Host' }, { type: 'SourceIp' }]
  const world = await startGateway(t, {
    services,
    pods: [pod],
    objects: [gateway({ port }), httpRoute('one', [at('web')], 'one'), policy({ key })]
  })
  const ask = async (host: string): Promise<number> => (await world.get(port, host)).status
  t.strictSame([await ask('a.example'), await ask('a.example'), await ask('A.example')], [200, 200, 429])
  t.equal(await ask('b.example'), 200, 'another host has its own')
  t.equal(await world.put(policy({ key })), undefined)
  t.equal(await ask('a.example'), 429, 'what was used stays used')
  t.match(await world.put(policy({ key, per: 'soon' })), /spec\.limits\[0\]\.per: expected a duration/)
  t.equal(await ask('a.example'), 429, 'what cannot be read changes nothing')
  t.equal(await ask('b.example'), 200)
  await world.remove('RateLimitPolicy', 'few')
  t.strictSame([await ask('a.example'), await ask('a.example'), await ask('a.example')], [200, 200, 200])
})
