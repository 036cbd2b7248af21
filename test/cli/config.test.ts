import t from 'tap'
import { readFileSync } from 'node:fs'
import { controlPlanePod, fakeCluster, fakePod, ztunnelPod } from './fake-cluster.ts'
import { cells, dumpFile, run } from './run-cli.ts'

const dump = JSON.parse(readFileSync(dumpFile, 'utf8')) as {
  workloads: { uid: string; name: string; namespace: string; node: string }[]
  services: unknown[]
  policies: unknown[]
}
const show = (...words: string[]) => run(['config', ...words, '-f', dumpFile])

t.test('workloads have the columns of istioctl', async t => {
  const { code, out, err } = await show('workloads')
  t.equal(code, 0)
  t.equal(err, '')
  t.strictSame(cells(out), [
    ['NAMESPACE', 'POD NAME', 'ADDRESS', 'NODE', 'WAYPOINT', 'PROTOCOL'],
    ['data', 'db-0', 'fd00:2::5', 'node-1', 'NA', 'HBONE'],
    ['data', 'networking.istio.io/ServiceEntry/data/ext/1.2.3.4', '1.2.3.4', '', 'None', 'TCP'],
    ['data', 'nowhere-0', '', '', 'NA', 'HBONE'],
    ['shop', 'cart-7d8c9-x2x7q', '10.1.2.7,fd00:1::7', 'node-2', 'waypoint', 'HBONE'],
    ['shop', 'cart-7d8c9-z9z9z', '10.1.2.8', 'node-2', 'waypoint', 'HBONE'],
    ['shop', 'legacy-0', '10.1.2.20', 'node-2', 'None', 'TCP'],
    ['shop', 'waypoint-55d8-qqqqq', '10.1.1.9', 'node-1', 'None', 'HBONE'],
    ['shop', 'web-6c9f4-abcde', '10.1.1.5', 'node-1', 'None', 'HBONE']
  ])
})

t.test('services, policies, certificates and connections have the columns of istioctl', async t => {
  t.strictSame(cells((await show('svc')).out).slice(0, 5), [
    ['NAMESPACE', 'SERVICE NAME', 'SERVICE VIP', 'WAYPOINT', 'ENDPOINTS'],
    ['data', 'db', '', 'None', '0/0'],
    ['data', 'edge', '10.96.0.50', 'NA', '0/0'],
    ['data', 'gone', '10.96.0.51', 'NA', '0/0'],
    ['shop', 'cart', '10.96.0.10,fd00:96::10', 'waypoint', '1/2']
  ])
  t.strictSame(cells((await show('pol')).out), [
    ['NAMESPACE', 'POLICY NAME', 'ACTION', 'SCOPE'],
    ['', 'all', 'Allow', 'Global'],
    ['istio-system', 'istio_converted_static_strict', 'Deny', 'WorkloadSelector'],
    ['shop', 'cart-clients', 'Allow', 'WorkloadSelector'],
    ['shop', 'no-admin', 'Deny', 'Namespace']
  ])
  const certificates = cells((await show('certs')).out)
  t.strictSame(certificates[0], [
    'CERTIFICATE NAME',
    'TYPE',
    'STATUS',
    'VALID CERT',
    'SERIAL NUMBER',
    'NOT AFTER',
    'NOT BEFORE'
  ])
  t.strictSame(
    certificates.slice(1).map(row => row.slice(1, 5)),
    [
      ['Leaf', 'Available', 'true', '1a2b3c4d5e6f70'],
      ['Intermediate', 'Available', 'true', '2'],
      ['Root', 'Available', 'true', 'f'],
      ['Leaf', 'Available', 'false', 'abc'],
      ['Root', 'Available', 'true', 'f'],
      ['NA', 'Initializing', 'false', 'NA'],
      ['NA', 'Unavailable', 'false', 'NA']
    ]
  )
  t.strictSame(cells((await show('cons')).out)[2], [
    'cart-7d8c9-x2x7q.shop',
    'Inbound',
    'cart-7d8c9-x2x7q.shop:8080',
    'web-6c9f4-abcde.shop:51234',
    'cart.shop.svc.cluster.local',
    'HBONE'
  ])
})

t.test('filters leave what they name', async t => {
  const names = async (...words: string[]) => (await show(...words, '-o', 'name')).out.trim().split('\n')
  const rows: readonly (readonly [string[], string[]])[] = [
    [
      ['workloads', '--workload-namespace', 'SHOP', '--workload-node', 'node-1'],
      ['workload/shop/waypoint-55d8-qqqqq', 'workload/shop/web-6c9f4-abcde']
    ],
    [['workloads', '-n', 'data', '--address', 'FD00:2::5'], ['workload/data/db-0']],
    [
      ['services', '--service-namespace', 'shop'],
      [
        'service/shop/cart.shop.svc.cluster.local',
        'service/shop/waypoint.shop.svc.cluster.local',
        'service/shop/web.shop.svc.cluster.local'
      ]
    ],
    [
      ['policies', '-n', 'shop'],
      ['policy/shop/cart-clients', 'policy/shop/no-admin']
    ],
    [['certificates', '-n', 'data'], ['certificate/spiffe://cluster.local/ns/data/sa/db']],
    [
      ['connections', '--direction', 'inbound', '-n', 'data'],
      ['connection/db-0.data/db-0.data:5432/[fd00:1::7]:444']
    ],
    [['connections', '--direction', 'outbound', '--raw', '-n', 'shop', '--workload-namespace', 'data'], ['']]
  ]
  for (const [words, expected] of rows) t.strictSame(await names(...words), expected, words.join(' '))
})

t.test('JSON, YAML and JSON lines say which version they are and keep every field', async t => {
  const json = JSON.parse((await show('policies', '-o', 'json', '-n', 'shop')).out) as {
    items: { rules: unknown }[]
  }
  t.match(json, { apiVersion: 'underpass.dev/v1', kind: 'PolicyList' })
  t.strictSame(json.items[0]?.rules, [[[{ principals: [{ Exact: 'cluster.local/ns/shop/sa/web' }] }]]])
  const { parseYaml } = await import('../../shared/kube/yaml.ts')
  t.strictSame(parseYaml((await show('policies', '-o', 'yaml', '-n', 'shop')).out), json)
  const lines = (await show('workloads', '-o', 'jsonl')).out
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as unknown)
  t.equal(lines.length, dump.workloads.length)
  t.match(lines[0], { apiVersion: 'underpass.dev/v1', kind: 'Workload', uid: 'Kubernetes//Pod/data/db-0' })
})

t.test('wide has more columns, --no-headers has none of the headings, short is table', async t => {
  t.match(cells((await show('workloads', '-o', 'wide')).out)[0], [
    'NAMESPACE',
    'POD NAME',
    'ADDRESS',
    'NODE',
    'WAYPOINT',
    'PROTOCOL',
    'STATUS'
  ])
  t.notMatch((await show('workloads', '--no-headers')).out, /NAMESPACE/)
  t.equal((await show('workloads', '-o', 'short')).out, (await show('workloads')).out)
})

t.test('all prints every table, with titles when asked, and the dump itself as JSON', async t => {
  const { out } = await show('all', '--with-headers')
  for (const title of ['WORKLOAD', 'SERVICE', 'POLICY', 'SECRET', 'CONNECTIONS'])
    t.match(out, `------ ${title} INFO ------\n\n`)
  t.notMatch((await show('all')).out, /------/)
  t.match(JSON.parse((await show('all', '-o', 'json')).out), {
    kind: 'ConfigDump',
    workloads: dump.workloads
  })
})

t.test('a dump may come on standard input, with maps for lists and keys of any case', async t => {
  const asMaps = {
    Workloads: Object.fromEntries(dump.workloads.map((workload, index) => [`/10.0.0.${index}`, workload]))
  }
  const { out, code } = await run(['zc', 'w', '--file', '-'], {
    readInput: async () => JSON.stringify(asMaps)
  })
  t.equal(code, 0)
  t.equal(cells(out).length, dump.workloads.length + 1)
})

t.test('what is no dump is refused with its name', async t => {
  const folder = t.testdir({ list: '[]', text: 'hello', other: '{"kind":"Pod"}' })
  const rows: readonly (readonly [string, RegExp])[] = [
    ['list', /list: not a dump of an agent \(expected an object\)/],
    ['text', /text: not JSON; a dump is the answer/],
    ['other', /other: not a dump of an agent \(it has no workloads/],
    ['missing', /cannot read the dump: ENOENT/]
  ]
  for (const [file, message] of rows) {
    const { code, err } = await run(['config', 'workloads', '-f', `${folder}/${file}`])
    t.equal(code, 1, file)
    t.match(err, message)
    t.notMatch(err, /at .*\.ts:/, 'no stack')
  }
})

t.test('all nodes are asked; what they hold alike is shown once, and differences are told', async t => {
  const stale = { ...dump, workloads: dump.workloads.filter(({ name }) => name !== 'legacy-0') }
  const cluster = await fakeCluster(t, {
    pods: [
      ztunnelPod('node-1', { 'GET /config_dump': dump }),
      ztunnelPod('node-2', { 'GET /config_dump': stale }),
      { pod: fakePod('web-6c9f4-abcde', 'node-2', {}, { namespace: 'shop' }) }
    ]
  })
  const env = { KUBECONFIG: cluster.kubeconfig }
  const both = await run(['config', 'workloads', '-o', 'wide'], { env })
  t.equal(both.code, 0)
  t.match(both.err, /agents differ on 1 workloads \(Kubernetes\/\/Pod\/shop\/legacy-0\)/)
  const agents = Object.fromEntries(cells(both.out).map(row => [row[1], row.at(-1)]))
  t.match(agents, { 'legacy-0': '1/2', 'web-6c9f4-abcde': '2/2' })
  for (const words of [
    ['--node', 'node-2'],
    ['--pod', 'web-6c9f4-abcde.shop'],
    ['web-6c9f4-abcde'],
    ['pod/web-6c9f4-abcde', '-n', 'shop'],
    ['ztunnel-node-2']
  ]) {
    const one = await run(['config', 'workloads', ...words], { env })
    t.notMatch(one.out, /legacy-0/, words.join(' '))
    t.equal(one.err, '')
  }
  const dumps = JSON.parse((await run(['config', 'all', '-o', 'json'], { env })).out) as {
    items: { node: string }[]
  }
  t.strictSame(
    dumps.items.map(({ node }) => node),
    ['node-1', 'node-2']
  )
})

t.test('diff finds what agents lack, hold too much of, or hold differently', async t => {
  const [{ uid: first } = { uid: '' }, ...others] = dump.workloads
  const changed = { ...dump, workloads: [{ ...dump.workloads[0], status: 'Gone' }, ...others.slice(1)] }
  const names = (list: unknown[]): { name: string }[] =>
    (list as { namespace: string; name: string; hostname?: string }[]).map(
      ({ namespace, name, hostname }) => ({
        name: `${namespace}/${hostname ?? name}`
      })
    )
  const desired = {
    workloads: [
      ...[first, ...others.map(({ uid }) => uid)].map(name => ({ name })),
      { name: 'Kubernetes//Pod/shop/brand-new' }
    ],
    services: names(dump.services),
    policies: names(dump.policies).slice(1)
  }
  const agents = [
    ztunnelPod('node-1', { 'GET /config_dump': dump }),
    ztunnelPod('node-2', { 'GET /config_dump': changed })
  ]
  const all = await fakeCluster(t, {
    pods: [...agents, controlPlanePod({ 'GET /debug/config_dump': desired })]
  })
  const { code, out, err } = await run(['config', 'diff', '--no-headers'], {
    env: { KUBECONFIG: all.kubeconfig }
  })
  t.equal(code, 2)
  t.equal(err, '')
  const lines = out
    .trimEnd()
    .split('\n')
    .map(line => line.split(/ {3,}/).join(' | '))
  t.strictSame(
    new Set(lines),
    new Set([
      `policy | ${names(dump.policies)[0]?.name} | not desired | node-1,node-2`,
      'workload | Kubernetes//Pod/shop/brand-new | missing | node-1,node-2',
      `workload | ${others[0]?.uid} | missing | node-2`,
      `workload | ${first} | different | node-1,node-2`
    ])
  )
  const alike = await fakeCluster(t, { pods: agents.slice(0, 1) })
  const same = await run(['config', 'diff'], { env: { KUBECONFIG: alike.kubeconfig } })
  t.equal(same.code, 0)
  t.match(same.err, /compared with each other only; the control plane was not asked/)
  t.match(same.err, /1 agents hold the same\n/)
})
