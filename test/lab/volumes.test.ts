import t from 'tap'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { ContainerLog } from '../../lab/container-log.ts'
import { containerProgram, type ProgramContext } from '../../lab/container-program.ts'
import type { LabContainer, LabPod, Volume } from '../../lab/kinds.ts'
import { PodSlots } from '../../lab/nodes.ts'
import { PodVolumes, type VolumeSources } from '../../lab/volumes.ts'

const podWith = (...volumes: Volume[]): LabPod => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'web', namespace: 'shop', labels: { app: 'web' } },
  spec: { nodeName: 'node1', volumes }
})

const settings: Record<string, string> = { colour: 'blue', size: 'xl' }

const sources: VolumeSources = {
  configMap: (_, name) =>
    name === 'settings'
      ? { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: settings }
      : undefined,
  secret: (_, name) =>
    name === 'keys'
      ? {
          apiVersion: 'v1',
          kind: 'Secret',
          metadata: { name },
          data: { key: Buffer.from([1, 2]).toString('base64') }
        }
      : undefined,
  services: () => [],
  podIps: ['10.244.1.2'],
  hostIp: '10.50.0.11',
  token: (_, audience, seconds) => `token for ${audience} (${seconds} s)`,
  hostPath: (node, host) => `/nodes/${node}${host}`
}

t.test('each kind of volume holds what it names', async t => {
  const folder = t.testdir()
  const pod = podWith(
    {
      name: 'settings',
      configMap: { name: 'settings', items: [{ key: 'colour', path: 'deep/colour.txt' }] }
    },
    { name: 'keys', secret: { secretName: 'keys' } },
    { name: 'scratch', emptyDir: {} },
    { name: 'maybe', configMap: { name: 'gone', optional: true } },
    {
      name: 'token',
      projected: {
        sources: [
          { serviceAccountToken: { path: 'token', audience: 'istio-ca', expirationSeconds: 600 } },
          { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } }
        ]
      }
    }
  )
  new PodVolumes(folder, sources).write(pod)
  const read = (name: string): string => readFileSync(path.join(folder, name), 'utf8')
  t.equal(read('settings/deep/colour.txt'), 'blue')
  t.strictSame([...readFileSync(path.join(folder, 'keys/key'))], [1, 2])
  t.equal(read('token/token'), 'token for istio-ca (600 s)')
  t.equal(read('token/labels'), 'app="web"')
  t.equal(statSync(path.join(folder, 'scratch')).mode & 0o777, 0o777, 'anybody in the pod writes there')
  t.strictSame(readdirSync(path.join(folder, 'maybe')), [])
})

t.test('what changes is written again, and what is gone goes', async t => {
  const folder = t.testdir()
  const pod = podWith({ name: 'settings', configMap: { name: 'settings' } })
  const changing = { ...settings }
  const volumes = new PodVolumes(folder, {
    ...sources,
    configMap: (_, name) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data: changing })
  })
  volumes.write(pod)
  delete changing['size']
  changing['colour'] = 'red'
  volumes.write(pod)
  t.strictSame(readdirSync(path.join(folder, 'settings')), ['colour'])
  t.equal(readFileSync(path.join(folder, 'settings/colour'), 'utf8'), 'red')
})

t.test('a volume of nothing keeps the pod waiting and says of what', async t => {
  const volumes = new PodVolumes(t.testdir(), sources)
  t.throws(() => volumes.write(podWith({ name: 'x', configMap: { name: 'gone' } })), {
    message: 'there is no ConfigMap gone'
  })
  t.throws(
    () =>
      volumes.write(
        podWith({ name: 'x', secret: { secretName: 'keys', items: [{ key: 'no', path: 'p' }] } })
      ),
    { message: 'Secret keys has no key no' }
  )
})

t.test('mounts are read-only where the content is the cluster’s', async t => {
  const folder = t.testdir()
  const pod = podWith(
    { name: 's', configMap: { name: 'settings' } },
    { name: 'e', emptyDir: {} },
    { name: 'h', hostPath: { path: '/var/run/x' } }
  )
  const container = {
    name: 'web',
    volumeMounts: [
      { name: 's', mountPath: '/s' },
      { name: 'e', mountPath: '/e', subPath: 'part' },
      { name: 'h', mountPath: '/h', readOnly: true }
    ]
  }
  t.strictSame(new PodVolumes(folder, sources).mounts(pod, container), [
    { source: `${folder}/s`, target: '/s', readOnly: true },
    { source: `${folder}/e/part`, target: '/e', readOnly: false },
    { source: '/nodes/node1/var/run/x', target: '/h', readOnly: true }
  ])
})

t.test('a log keeps its last mebibyte, in lines, and the former instance', async t => {
  const log = new ContainerLog()
  const request = { follow: false, previous: false, timestamps: false }
  const signal = new AbortController().signal
  log.write('stdout', 'one\ntw')
  log.write('stderr', 'err\n')
  log.write('stdout', 'o\nrest')
  log.end()
  t.equal(await text(log.read(request, signal)), 'one\nerr\ntwo\nrest\n')
  t.equal(await text(log.read({ ...request, tailLines: 1 }, signal)), 'rest\n')
  t.equal(await text(log.read({ ...request, limitBytes: 6 }, signal)), 'one\ner')
  t.match(
    await text(log.read({ ...request, timestamps: true, tailLines: 1 }, signal)),
    /^\d{4}-\d\d-\d\dT.*Z rest\n$/
  )
  log.restart()
  const followed = text(log.read({ ...request, follow: true }, signal))
  log.write('stdout', 'again\n')
  log.end()
  t.equal(await followed, 'again\n', 'who follows is told of the end')
  t.equal(await text(log.read({ ...request, previous: true }, signal)), 'one\nerr\ntwo\nrest\n')
  log.restart()
  for (let line = 0; line < 40_000; line += 1) log.write('stdout', `${'x'.repeat(99)}\n`)
  t.ok(log.text().length <= 2.1 * 1024 * 1024, 'bounded')
})

const context: ProgramContext = {
  projectRoot: '/p',
  nodePath: '/n/node',
  runCommands: 'allow-list',
  extension: '.ts'
}

t.test('the mesh’s own image runs from this project, with rights only in its own namespace', async t => {
  const image = 'underpass.dev/underpass:0.1.0'
  const seesMounts = [{ name: 'netns', mountPath: '/var/run/netns', mountPropagation: 'HostToContainer' }]
  const program = (namespace: string, volumeMounts: LabContainer['volumeMounts'] = []) =>
    containerProgram(
      { ...podWith(), metadata: { name: 'p', namespace } },
      { name: 'c', image, args: ['/app/ztunnel/main.js', 'proxy'], volumeMounts },
      new Map(),
      context,
      'main'
    )
  t.match(program('istio-system'), {
    kind: 'mesh',
    privileges: 'network',
    command: ['/n/node', /^--/, '/p/ztunnel/main.ts', 'proxy']
  })
  t.match(program('istio-system', seesMounts), { privileges: 'node' })
  t.match(program('shop', seesMounts), { privileges: 'none' }, 'nobody else gets them by naming the image')
})

t.test('who waits for an end is not given a server', async t => {
  const container = { name: 'c', image: 'migrate:1' }
  t.equal(containerProgram(podWith(), container, new Map(), context, 'init').kind, 'skipped')
  t.equal(containerProgram(podWith(), container, new Map(), context, 'main').kind, 'stand-in')
})

t.test('freed addresses are given out again as late as possible, and never twice', async t => {
  const slots = new PodSlots()
  t.equal(slots.take('a'), 2)
  slots.release('a')
  t.equal(slots.take('b'), 3)
  for (let count = 0; count < 252; count += 1) slots.take(`p${count}`)
  t.equal(slots.take('one more'), undefined)
  slots.release('p7')
  t.equal(slots.take('again'), 11)
})
