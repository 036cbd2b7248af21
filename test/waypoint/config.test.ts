/** The environment of a waypoint: what is read, what is the default, and every problem at once. */
import t from 'tap'
import { formatCidr } from '../../shared/net/address.ts'
import { readConfig } from '../../waypoint/config.ts'
import { startPod, startWorld, type Pod } from './world.ts'

const readFile = (): undefined => undefined

t.test('as the control plane starts it', async t => {
  const { config } = readConfig({
    env: {
      ...{ POD_NAME: 'wp-1', POD_NAMESPACE: 'shop', SERVICE_ACCOUNT: 'wp', INSTANCE_IP: '10.0.0.9' },
      ...{
        TRUST_DOMAIN: 'corp',
        CLUSTER_DOMAIN: 'k8s.corp',
        XDS_ADDRESS: 'https://istiod.istio-system.svc:15012'
      }
    },
    readFile: path => (path.endsWith('istio-token') ? 'token' : undefined)
  })
  t.match(config, {
    identity: 'spiffe://corp/ns/shop/sa/wp',
    self: { namespace: 'shop', hostname: 'wp.shop.svc.k8s.corp' },
    xds: { address: 'https://istiod.istio-system.svc:15012' },
    authToken: './var/run/secrets/tokens/istio-token',
    ports: { hbone: 15008, admin: 15000, stats: 15020, ready: 15021 },
    accessLog: 'errors',
    pathNormalization: 'BASE'
  })
})

t.test('problems are told together', async t => {
  const env = {
    ...{ UNDERPASS_INBOUND_PORT: '70000', UNDERPASS_ACCESS_LOG: 'some', RUST_LOG: 'loud' },
    ...{ XDS_ADDRESS: 'http://plain:1', UNDERPASS_PROTOCOL_DETECTION_TIMEOUT: 'soon' }
  }
  t.throws(() => readConfig({ env, readFile }), {
    message:
      /UNDERPASS_INBOUND_PORT="70000"[^]*XDS_ADDRESS[^]*UNDERPASS_PROTOCOL_DETECTION_TIMEOUT="soon"[^]*UNDERPASS_ACCESS_LOG="some"[^]*RUST_LOG="loud"|RUST_LOG/
  })
})

t.test('who is asked for names, and where wildcards may lead', async t => {
  const egressOf = (servers: string | undefined, blocks: string): unknown => {
    const asked = servers === undefined ? {} : { UNDERPASS_DNS_SERVERS: servers }
    const env = { XDS_ADDRESS: '', ...asked, UNDERPASS_EGRESS_ALLOWED_BLOCKS: blocks }
    const { dnsServers, allowed } = readConfig({ env, readFile }).config.egress
    return { dnsServers, allowed: allowed.map(formatCidr) }
  }
  t.strictSame(egressOf(undefined, ''), { dnsServers: undefined, allowed: [] })
  t.strictSame(egressOf('10.96.0.10, 10.0.0.1:5353,[fd00::a]:53', '10.1.0.0/16, fd00::/8,192.168.1.1'), {
    dnsServers: ['10.96.0.10', '10.0.0.1:5353', '[fd00::a]:53'],
    allowed: ['10.1.0.0/16', 'fd00::/8', '192.168.1.1/32']
  })
  t.throws(() => egressOf('dns.example,', '10.0.0.0/33'), {
    message:
      /UNDERPASS_DNS_SERVERS: "dns.example" is no address[^]*UNDERPASS_DNS_SERVERS: "" is no address[^]*UNDERPASS_EGRESS_ALLOWED_BLOCKS: "10\.0\.0\.0\/33" is no block/
  })
})

t.test('HTTP/1.0 only where it is allowed', async t => {
  const web: Pod = { name: 'web', address: '127.77.5.1', port: 8080, services: ['web'] }
  await startPod(t, web, (_, response) => response.end('hi'))
  const services = [{ name: 'web', vip: '10.96.0.1' }]
  for (const [env, expected] of [
    [{}, / 426 Upgrade Required\r\n/],
    [{ PILOT_HTTP10: 'true' }, / 200 OK\r\n[^]*hi$/]
  ] as const) {
    const world = await startWorld(t, { services, pods: [web], env })
    const client = await world.connect('10.96.0.1:80')
    client.write('GET / HTTP/1.0\r\n\r\n')
    let text = ''
    for await (const chunk of client) text += String(chunk)
    t.match(text, expected)
  }
})
