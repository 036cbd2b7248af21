import t from 'tap'
import { readConfig } from '../../daemonset/config.ts'

t.test('defaults are those of istio-cni', async t => {
  const { config, variables } = readConfig({ NODE_NAME: 'node-1' })
  t.match(config, {
    nodeName: 'node-1',
    zdsSocket: '/var/run/ztunnel/ztunnel.sock',
    cniSocket: '/var/run/istio-cni/pluginevent.sock',
    wish: { mode: 'auto', backend: 'auto' },
    places: { netnsDir: '/var/run/netns', procDir: '/proc' },
    probeAddresses: ['169.254.7.127', 'fd16:9254:7127:1337:ffff:ffff:ffff:ffff'],
    ports: { health: 8000, metrics: 15014, admin: 15016 },
    verifyIntervalMs: 60_000
  })
  t.strictSame(config.enrolment.excludedNamespaces, new Set(['kube-system']))
  for (const { name, meaning } of variables) t.ok(meaning.length > 10, `${name} is explained`)
})

t.test('all mistakes are told together, each with its remedy', async t => {
  const env = {
    UNDERPASS_CAPTURE_MODE: 'magic',
    HOST_PROBE_SNAT_IP: 'fd00::1',
    UNDERPASS_VERIFY_INTERVAL: 'often',
    LOG_LEVEL: 'loud'
  }
  t.throws(() => readConfig(env), {
    name: 'ConfigError',
    problems: [
      /NODE_NAME is not set/,
      /UNDERPASS_CAPTURE_MODE="magic": expected auto \| tproxy \| redirect/,
      /HOST_PROBE_SNAT_IP="fd00::1": expected an IPv4 address/,
      /UNDERPASS_VERIFY_INTERVAL="often": expected a duration/,
      /LOG_LEVEL="loud"/
    ]
  })
})
