/** Logs in one stream, and the report for somebody else: what is in it, and what must not be. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import { redactObject, redactText } from '../../cli/bug-report/redact.ts'
import { tarOf } from '../../cli/bug-report/tar.ts'
import { splitLine } from '../../cli/pod-logs.ts'
import { fakeCluster, nodeAgentPod, ztunnelPod } from './fake-cluster.ts'
import { dumpFile, now, run } from './run-cli.ts'

const key = '-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\nkqhkiG9w0\n-----END PRIVATE KEY-----'
const token = 'eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJl.c2lnbmF0dXJl'

const texts = [
  { name: 'a private key', text: `a\n${key}\nb`, kept: /^a\n.*\nb$/s, gone: /MIIE/ },
  { name: 'a private key inside JSON', text: JSON.stringify({ key }), kept: /REDACTED/, gone: /MIIE|kqhki/ },
  { name: 'a key whose end is missing', text: key.slice(0, 40), kept: /REDACTED/, gone: /MIIE/ },
  {
    name: 'an RSA key',
    text: key.replaceAll('PRIVATE', 'RSA PRIVATE'),
    kept: /REDACTED/,
    gone: /MIIE/
  },
  { name: 'a token', text: `got ${token} from`, kept: /^got REDACTED from$/, gone: /eyJ/ },
  { name: 'a header', text: 'Authorization: Bearer abcdef0123456789', kept: /Bearer/, gone: /abcdef/ },
  { name: 'a password', text: 'db password: hunter2, user: x', kept: /user: x/, gone: /hunter2/ },
  { name: 'a JSON field', text: '{"clientSecret":"abc def","a":1}', kept: /"a":1/, gone: /abc def/ },
  {
    name: 'a path to a token stays',
    text: 'AUTH_TOKEN=/var/run/token',
    kept: /\/var\/run\/token/,
    gone: /REDACTED/
  },
  {
    name: 'a certificate stays',
    text: '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----',
    kept: /MIIB/,
    gone: /REDACTED/
  }
]
for (const { name, text, kept, gone } of texts) {
  t.test(`redaction: ${name}`, async t => {
    t.match(redactText(text), kept)
    t.notMatch(redactText(text), gone)
  })
}

t.test('of objects, contents of Secrets, variables and bookkeeping go', async t => {
  const secret = {
    kind: 'Secret',
    apiVersion: 'v1',
    metadata: {
      name: 's',
      managedFields: [],
      annotations: { 'kubectl.kubernetes.io/last-applied-configuration': 'x' }
    },
    data: { 'ca-key.pem': Buffer.from('hunter2').toString('base64') },
    stringData: { x: 'hunter2' }
  }
  t.same(redactObject([secret]), [
    {
      kind: 'Secret',
      apiVersion: 'v1',
      type: undefined,
      metadata: { name: 's', namespace: undefined, labels: undefined, creationTimestamp: undefined },
      data: { 'ca-key.pem': '7 bytes' }
    }
  ])
  const pod = {
    kind: 'Pod',
    metadata: { name: 'p', managedFields: [1] },
    env: [
      { name: 'DB_PASSWORD', value: 'hunter2' },
      { name: 'AUTH_TOKEN', value: '/var/run/token' },
      { name: 'LEVEL', value: 'info' }
    ]
  }
  t.same(redactObject(pod), {
    kind: 'Pod',
    metadata: { name: 'p' },
    env: [
      { name: 'DB_PASSWORD', value: 'REDACTED' },
      { name: 'AUTH_TOKEN', value: '/var/run/token' },
      { name: 'LEVEL', value: 'info' }
    ]
  })
})

t.test('tar reads what was written', async t => {
  const folder = t.testdir({})
  const long = `${'folder/'.repeat(14)}${'x'.repeat(90)}.txt`
  const archive = tarOf(
    [
      { path: 'a.txt', content: 'first\n' },
      { path: long, content: 'é'.repeat(600) },
      { path: 'empty', content: '' }
    ],
    now
  )
  execFileSync('tar', ['-xf', '-', '-C', folder], { input: archive })
  t.equal(readFileSync(path.join(folder, 'a.txt'), 'utf8'), 'first\n')
  t.equal(readFileSync(path.join(folder, long), 'utf8'), 'é'.repeat(600))
  t.equal(statSync(path.join(folder, 'a.txt')).mtimeMs, now)
  t.throws(() => tarOf([{ path: 'x'.repeat(101), content: '' }], now), /too long a name/)
})

t.test('the time of a line is the node’s', async t => {
  t.same(splitLine('2026-06-01T00:00:00.123456789Z a b'), {
    time: '2026-06-01T00:00:00.123456789Z',
    text: 'a b'
  })
  t.same(splitLine('no time'), { time: '', text: 'no time' })
})

const dump = JSON.parse(readFileSync(dumpFile, 'utf8')) as object
const logs = {
  'ztunnel-node-1': '2026-06-01T00:00:02Z second web\n2026-06-01T00:00:04Z fourth\n',
  'istio-cni-node-node-1': `2026-06-01T00:00:01Z first\n2026-06-01T00:00:03Z third ${token}\n`
}
const mesh = [
  ztunnelPod('node-1', { 'GET /config_dump': dump }),
  nodeAgentPod('node-1', { 'GET /v1/pods': { pods: [] } })
]

t.test('lines of all programs are in the order of time', async t => {
  const env = { KUBECONFIG: (await fakeCluster(t, { pods: mesh, logs })).kubeconfig }
  const { out, err, code } = await run(['logs'], { env })
  t.equal(code, 0, err)
  t.same(
    out
      .trim()
      .split('\n')
      .map(line => line.replace(token, 'T')),
    [
      'node agent node-1 first',
      'ztunnel node-1 second web',
      'node agent node-1 third T',
      'ztunnel node-1 fourth'
    ]
  )
  const one = await run(['logs', '--of', 'ztunnel', '-f'], { env })
  t.equal(one.out, 'ztunnel node-1 second web\nztunnel node-1 fourth\n')
  t.match((await run(['logs', '--tail', 'x'], { env })).err, /--tail "x"/)
  t.match((await run(['logs', '--since', 'x'], { env })).err, /--since "x"/)
})

t.test('a report holds what was asked for, and no secret', async t => {
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: 'istio-ca-secret', namespace: 'istio-system' },
    data: { 'ca-key.pem': Buffer.from(key).toString('base64') }
  }
  const { kubeconfig } = await fakeCluster(t, { pods: mesh, logs, objects: { secrets: [secret] } })
  const folder = path.dirname(kubeconfig)
  const file = path.join(folder, 'report.tar.gz')
  const { out, err, code } = await run(['bug-report', '--file', file], { env: { KUBECONFIG: kubeconfig } })
  t.equal(code, 3, 'what this cluster does not answer is missing')
  t.match(err, /not collected:\n.*\/v1\/connections/s)
  t.match(out, /look at it before you send it/)
  t.equal(statSync(file).mode & 0o777, 0o600)
  const unpacked = path.join(folder, 'report')
  mkdirSync(unpacked)
  execFileSync('tar', ['-xzf', file, '-C', unpacked])
  const files = readdirSync(unpacked, { recursive: true, encoding: 'utf8' })
  for (const name of [
    'version.txt',
    'status.txt',
    'check.txt',
    'problems.txt',
    'objects/secrets.json',
    'ztunnel/node-1/ztunnel-node-1/config_dump',
    'node-agent/node-1/istio-cni-node-node-1/log'
  ])
    t.ok(files.includes(name), name)
  const all = gunzipSync(readFileSync(file)).toString()
  t.notMatch(all, /eyJhbGci/, 'no token')
  t.notMatch(all, Buffer.from(key).toString('base64').slice(0, 40), 'no key')
  t.match(all, /third REDACTED/)
})
