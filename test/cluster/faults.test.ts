/**
 * What users see when parts of a real two-node Kubernetes fail: pods call each other twenty times a second, on both
 * nodes and across, while its parts are stopped, killed, filled up and cut off. docs/faults.md has the numbers.
 */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { setTimeout as delay } from 'node:timers/promises'
import { isDeepStrictEqual } from 'node:util'
import { closeNetns, openNetns } from '../../shared/net/netns.ts'
import { clusterMissing } from '../support/cluster.ts'
import { eventually } from '../support/eventually.ts'
import { installMesh, startClusterWithImage } from '../support/mesh-cluster.ts'
import { rolledOut } from '../support/rollout.ts'
import { watchWire } from '../support/watch-wire.ts'
import { HostPortPod } from './faults-host-port.ts'
import { descriptorsOfAgent, fillConfigurationDisk, hangApiServer, killZtunnel } from './faults-node.ts'
import { startWorld, told, words, type PodName } from './faults-world.ts'

/** How long the API server is away. */
const outageSeconds = Number(process.env['UNDERPASS_FAULT_SECONDS'] ?? 30)
/**
 * Kubernetes takes a node for gone that has not written for so long. After a longer outage it does so with all nodes for
 * some seconds, and takes their pods out of Services, with a mesh or without.
 */
const nodeGraceSeconds = 40
/** How long certificates live when the control plane goes. */
const lifeSeconds = 12
/** Before each restart but the first the kubelet waits: 10 s, 20 s, 40 s… */
const kills = 2
const control = 'seen-by-everybody'
/** Within a node, to the other one, from the other one. */
const paths = [
  ['caller', 'one'],
  ['caller', 'two'],
  ['remote', 'one']
] as const

t.test('faults of a cluster under load', { skip: clusterMissing(), timeout: 900_000 }, async t => {
  const cluster = await startClusterWithImage(t, 2)
  // A ztunnel that is replaced cuts its connections after a few seconds, not half a minute.
  await installMesh(cluster, manifest =>
    manifest.replace(/(name: TERMINATION_GRACE_PERIOD_SECONDS\s+value: )"30"/, '$1"5"')
  )
  const { kubectl, onNode } = cluster
  const world = await startWorld(cluster)
  const inSystem = async (...args: readonly string[]): Promise<string> =>
    kubectl(['-n', 'istio-system', ...args])

  const netns = openNetns('/run/netns/node1')
  t.teardown(() => closeNetns(netns))
  const wire = watchWire(t, [words, control], [{ netns }])
  const say = `require('node:net').connect(8080, '${world.addressOf('two')}', function () { this.end('${control}') })`
  await onNode('node1', `${process.execPath} -e "${say}"`)
  await eventually('clear text is seen where it is sent', () => wire.seen(control) > 0)
  await world.flowing()

  await t.test('a pod with a hostPort is reached by it as without the mesh, unless it is STRICT', async t => {
    const pod = await HostPortPod.start(cluster)
    const before = await pod.reached()
    t.comment(JSON.stringify(before))
    t.match(Object.values(before), [/^answered/, 'answered, sees node2', /^answered/])
    await pod.enrol()
    t.strictSame(await pod.reached(), before, 'enrolled, PERMISSIVE')
    await pod.makeStrict()
    const refused = { 'its own node': 'refused', 'the other node': 'refused', 'an enrolled pod': 'refused' }
    await eventually('STRICT refuses what comes in the clear', async () =>
      isDeepStrictEqual(await pod.reached(), refused)
    )
  })

  await t.test(
    `the API server hangs for ${outageSeconds} s: no call fails, and what is written afterwards arrives`,
    async t => {
      const from = Date.now()
      await hangApiServer(cluster, outageSeconds)
      await world.flowing()
      for (const [caller, target] of [...paths, ['caller', 'both']] as const) {
        const seen = await world.seen(caller, target, { from })
        t.comment(`${caller} to ${target}: ${told(seen)}`)
        if (target !== 'both' || outageSeconds < nodeGraceSeconds) t.equal(seen.failed, 0, seen.reasons)
        t.equal(seen.cut, 0)
        t.ok(seen.answered > outageSeconds, 'there was load')
      }
      const written = Date.now()
      await kubectl(['apply', '-f', '-'], denyRemote)
      await eventually('the policy refuses', async () => {
        return (await world.seen('remote', 'one', { from: written })).failed > 20
      })
      t.comment(`the policy was seen to act ${Date.now() - written} ms after it was written`)
      await kubectl(['delete', '-f', '-'], denyRemote)
      await world.flowing()
    }
  )

  await t.test(
    'the node agent finds a full disk: pods go on, the log says what to do, room heals it',
    async t => {
      const from = Date.now()
      const disk = await fillConfigurationDisk(cluster, 'node1')
      try {
        const agent = await podOn('node1', 'k8s-app=istio-cni-node')
        await inSystem('delete', 'pod', agent, '--wait')
        await eventually('the new agent says what is wrong', async () => {
          const log = await inSystem('logs', await podOn('node1', 'k8s-app=istio-cni-node'))
          return /the CNI plug-in is not in place.*10-bridge\.conflist cannot be written; make room on its disk/.test(
            log
          )
        })
        t.equal(await onNode('node1', 'ls -A /etc/cni/net.d'), '10-bridge.conflist\nsomebodys.log\n')
        await disk.free()
        await rolledOut(cluster, 'istio-system', { workloads: ['daemonset/istio-cni-node'] })
        t.match(await onNode('node1', 'cat /etc/cni/net.d/10-bridge.conflist'), /"istio-cni"/)
      } finally {
        await disk.restore()
      }
      for (const [caller, target] of [
        ['caller', 'both'],
        ['remote', 'one']
      ] as const) {
        const seen = await world.seen(caller, target, { from })
        t.comment(`${caller} to ${target}: ${told(seen)}`)
        t.equal(seen.failed, 0, seen.reasons)
      }
    }
  )

  await t.test(
    'the control plane is gone for three lives of certificates: new calls fail once these have ended, held connections live, all heals by itself',
    async t => {
      const rolled = Date.now()
      await inSystem('set', 'env', 'daemonset/ztunnel', `SECRET_TTL=${lifeSeconds}s`)
      await rolledOut(cluster, 'istio-system', { workloads: ['daemonset/ztunnel'] })
      await eventually('the old ones are gone', async () => (await podsOf('app=ztunnel')).length === 2)
      await world.flowing()
      const replaced = await world.seen('caller', 'two', { from: rolled })
      t.equal(replaced.failed, 0, `ztunnel gets another SECRET_TTL: ${told(replaced)}`)

      // When it comes back it has to be where no power is cut.
      const away = {
        spec: {
          replicas: 0,
          template: { spec: { nodeSelector: { 'kubernetes.io/hostname': 'node1' } } }
        }
      }
      await inSystem('patch', 'deployment', 'istiod', '--patch', JSON.stringify(away))
      await inSystem('wait', '--for=delete', 'pod', '-l', 'app=istiod', '--timeout=60s')
      const gone = Date.now()
      await eventually('the certificates of all ends have ended', async () => {
        const from = Date.now() - 3000
        const seen = await Promise.all(paths.map(([caller, target]) => world.seen(caller, target, { from })))
        return seen.every(({ answered }) => answered === 0)
      })
      const ended = Date.now()
      await delay(Math.max(0, gone + 3 * lifeSeconds * 1000 - ended)) // the length of the fault
      const to = Date.now()
      const back = Date.now()
      await inSystem('scale', 'deployment', 'istiod', '--replicas=1')
      for (const [caller, target] of paths) {
        const before = await world.seen(caller, target, { from: gone, to: ended })
        t.comment(`${caller} to ${target}, until certificates end: ${told(before)}`)
        const during = await world.seen(caller, target, { from: ended + 2000, to })
        t.comment(`${caller} to ${target}, then: ${told(during)}`)
        t.equal(during.answered, 0, 'nothing is served without a certificate')
        t.ok(during.failed > 20, 'calls fail, they do not wait')
        t.equal(during.cut, 0, 'the connection that stands lives on')
        t.ok(during.held > 5, 'and is answered')
      }
      await world.flowing(back)
      t.comment(`healed ${Math.round((Date.now() - back) / 1000)} s after the control plane was scaled up`)
      t.strictSame(wire.flows(words), [], 'not a word in the clear')
    }
  )

  await t.test(
    'ztunnel is killed twice: its pods are carried again each time, and the node agent holds no more than before',
    async t => {
      const descriptors = await descriptorsOfAgent(cluster, 'node1')
      for (let round = 1; round <= kills; round++) {
        const from = Date.now()
        await killZtunnel(cluster, 'node1')
        await world.flowing(from + 2000)
        const seconds = ((Date.now() - from) / 1000).toFixed(1)
        t.comment(`kill ${round}: all is well again after ${seconds} s`)
        for (const [caller, target] of paths) {
          t.comment(`  ${caller} to ${target}: ${told(await world.seen(caller, target, { from }))}`)
        }
      }
      const held = await descriptorsOfAgent(cluster, 'node1')
      t.ok(held < descriptors + kills, `the node agent holds ${held} descriptors, ${descriptors} before`)
      t.strictSame(wire.flows(words), [], 'not a word in the clear')
      t.equal(wire.dropped(), 0, 'no packet escaped the look')
      t.ok(wire.bytes > 100_000, `${wire.bytes} bytes were looked at`)
    }
  )

  await t.test(
    'a node loses its power: calls of a Service are answered by the other node, if late at first',
    async t => {
      const from = Date.now()
      await powerCut()
      await eventually('the pod that is gone does not answer', async () => {
        return (await world.seen('caller', 'two', { from: Date.now() - 3000 })).answered === 0
      })
      await eventually('Kubernetes notices', async () => {
        const ready = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}'
        return (await kubectl(['get', 'node', 'node2', '-o', ready])) === 'Unknown'
      })
      const noticed = Date.now()
      await eventually('nobody waits any more', async () => {
        const last = await world.seen('caller', 'both', { from: Math.max(noticed, Date.now() - 4000) })
        return last.answered > 40 && last.failed === 0 && last.longestMs < 2000
      })
      const seconds = Math.round((Date.now() - from) / 1000)
      const seen = await world.seen('caller', 'both', { from })
      t.comment(
        `to the Service: ${told(seen)}; all is well again within ${seconds} s, ${Math.round((Date.now() - noticed) / 1000)} s after the node is not ready`
      )
      t.comment(`to the pod that is gone: ${told(await world.seen('caller', 'two', { from }))}`)
      t.ok(seen.failed <= 5, 'but for those that were under way')
      t.ok(seen.longestMs < 45_000, 'a dead peer goes unnoticed for 30 s at most')
      t.equal((await world.seen('caller', 'one', { from })).failed, 0, 'the other node does not notice')
    }
  )

  /** Silence first: what ends afterwards cannot say goodbye, nor can this machine say for it that it is gone. */
  async function powerCut(): Promise<void> {
    const gone = ['two', 'remote'] as const satisfies readonly PodName[]
    const routes = gone.map(name => `ip route add blackhole ${world.addressOf(name)}/32`)
    await onNode('node1', routes.join(' && '))
    execFileSync(`${process.env['UNDERPASS_CLUSTER']}/cluster`, ['kill', 'node2'])
  }

  async function podsOf(selector: string): Promise<readonly string[]> {
    const text = await inSystem('get', 'pods', '-l', selector, '-o', 'jsonpath={.items[*].metadata.name}')
    return text.split(' ')
  }

  async function podOn(node: string, selector: string): Promise<string> {
    const name = `jsonpath={.items[?(@.spec.nodeName=="${node}")].metadata.name}`
    return inSystem('get', 'pods', '-l', selector, '-o', name)
  }
})

const denyRemote = `
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: deny-remote, namespace: shop}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/remote]}}]}]`
