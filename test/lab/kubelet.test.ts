/** What a kubelet promises a pod, kept by real containers of one lab. */
import t from 'tap'
import path from 'node:path'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { configMaps, endpointSlices } from '../../shared/kube/core-api.ts'
import { isReady, labPods, type LabPod } from '../../lab/kinds.ts'
import { kubeconfigPath } from '../../lab/state.ts'
import { LabProcess, users } from './lab-process.ts'

t.setTimeout(300_000)

const pod = (name: string, spec: string, labels = '{}'): string => `---
apiVersion: v1
kind: Pod
metadata: {name: ${name}, labels: ${labels}}
spec:
  terminationGracePeriodSeconds: 0
${spec}`

const manifests = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {colour: blue}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: s3cret}
---
apiVersion: v1
kind: Service
metadata: {name: gated}
spec: {selector: {app: gated}, ports: [{port: 80}]}
${pod('crasher', '  containers: [{name: c, image: busybox, command: [sh, -c, "echo once more; exit 3"]}]\n')}
${pod('ends', '  restartPolicy: Never\n  containers: [{name: c, image: busybox, command: [sh, -c, "exit 0"]}]\n')}
${pod('lacks', '  containers: [{name: c, image: busybox, command: [sleep, infinity], envFrom: [{configMapRef: {name: later}}]}]\n')}
${pod(
  'hangs',
  `  containers:
    - name: c
      image: busybox
      command: [sh, -c, "touch /tmp/alive; sleep 2; rm /tmp/alive; sleep 1000"]
      livenessProbe: {exec: {command: [cat, /tmp/alive]}, periodSeconds: 1, failureThreshold: 1}
`
)}
${pod(
  'gated',
  `  initContainers:
    - {name: first, image: busybox, command: [sh, -c, "echo first > /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
    - {name: second, image: busybox, command: [sh, -c, "echo second >> /shared/order"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
    - name: c
      image: busybox
      command: [sleep, infinity]
      env: [{name: KEY, valueFrom: {secretKeyRef: {name: keys, key: key}}}]
      readinessProbe: {exec: {command: [cat, /shared/ready]}, periodSeconds: 1, failureThreshold: 1}
      volumeMounts:
        - {name: shared, mountPath: /shared}
        - {name: settings, mountPath: /settings}
        - {name: token, mountPath: /token}
  volumes:
    - {name: shared, emptyDir: {}}
    - {name: settings, configMap: {name: settings}}
    - {name: token, projected: {sources: [{serviceAccountToken: {path: token, audience: istio-ca}}]}}
`,
  '{app: gated}'
)}
`

const [chosen] = (await users()).filter(({ skip }) => skip === false)

t.test(
  'pods live as a kubelet promises',
  { skip: chosen === undefined && 'no user can run a lab here' },
  async t => {
    const lab = new LabProcess(t, chosen?.user ?? 'root', ['up', '--no-mesh', '--nodes', '1'])
    await lab.printed('ready.')
    const client = new KubeClient(await loadKubeConfig({ kubeconfig: kubeconfigPath(lab.folder) }))
    t.teardown(() => client.close())
    t.match(
      await lab.run('kubectl', 'apply', '-f', path.join(t.testdir({ 'pods.yaml': manifests }), 'pods.yaml')),
      { code: 0 }
    )
    const get = (name: string): Promise<LabPod> => client.get(labPods, { namespace: 'default', name })
    const exec = (...command: string[]) => lab.run('exec', 'gated', '--', ...command)

    /** The pod once it is as expected; fails by time, showing how it is. */
    async function until(name: string, fits: (pod: LabPod) => boolean): Promise<LabPod> {
      const deadline = Date.now() + 45_000
      for (;;) {
        const found = await get(name)
        if (fits(found)) return found
        if (Date.now() > deadline) throw new Error(`pod ${name} stays so: ${JSON.stringify(found.status)}`)
        await new Promise(resolve => setTimeout(resolve, 50))
      }
    }

    await t.test('init containers run in order before the others', async t => {
      await until('gated', ({ status }) => status?.phase === 'Running')
      t.equal((await exec('cat', '/shared/order')).stdout, 'first\nsecond\n')
      t.match((await get('gated')).status?.initContainerStatuses, [
        { name: 'first', state: { terminated: { exitCode: 0 } } },
        { name: 'second', state: { terminated: { exitCode: 0 } } }
      ])
    })

    await t.test('a pod serves while its readiness probe succeeds, and only then', async t => {
      const ready = async (): Promise<boolean | undefined> => {
        const labelSelector = 'kubernetes.io/service-name=gated'
        const { items } = await client.list(endpointSlices, { namespace: 'default', labelSelector })
        return items[0]?.endpoints?.[0]?.conditions?.ready
      }
      t.notOk(isReady(await get('gated')))
      t.equal(await ready(), false)
      await exec('touch', '/shared/ready')
      await until('gated', isReady)
      t.equal(await ready(), true)
      await exec('rm', '/shared/ready')
      await until('gated', found => !isReady(found))
      t.equal(await ready(), false)
    })

    await t.test('environment, settings and tokens arrive, and follow changes', async t => {
      t.equal((await exec('printenv', 'KEY')).stdout, 's3cret\n')
      t.equal((await exec('cat', '/settings/colour')).stdout, 'blue')
      const token = (await exec('cat', '/token/token')).stdout
      const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as object
      t.match(claims, {
        aud: ['istio-ca'],
        sub: 'system:serviceaccount:default:default',
        'kubernetes.io': { pod: { name: 'gated' } }
      })
      await client.patch(
        configMaps,
        { namespace: 'default', name: 'settings' },
        { data: { colour: 'red' } },
        { kind: 'merge' }
      )
      t.equal(
        (await lab.until(({ stdout }) => stdout === 'red', 'exec', 'gated', '--', 'cat', '/settings/colour'))
          .stdout,
        'red'
      )
    })

    await t.test(
      'what ends is started again after growing pauses, unless the pod says otherwise',
      async t => {
        const crashed = await until(
          'crasher',
          ({ status }) => (status?.containerStatuses?.[0]?.restartCount ?? 0) >= 2
        )
        t.match(crashed.status, {
          phase: 'Running',
          containerStatuses: [{ lastState: { terminated: { exitCode: 3, reason: 'Error' } } }]
        })
        t.match((await lab.run('kubectl', 'logs', 'crasher', '--previous')).stdout, 'once more')
        const ended = await until('ends', ({ status }) => status?.phase === 'Succeeded')
        t.equal(ended.status?.containerStatuses?.[0]?.restartCount, 0)
        const hung = await until(
          'hangs',
          ({ status }) => (status?.containerStatuses?.[0]?.restartCount ?? 0) >= 1
        )
        t.ok(hung, 'a container whose liveness probe fails is started again')
      }
    )

    await t.test('a container waits for what it refers to', async t => {
      const waiting = await until(
        'lacks',
        ({ status }) => status?.containerStatuses?.[0]?.state.waiting?.reason === 'CreateContainerConfigError'
      )
      t.match(waiting.status?.containerStatuses?.[0]?.state, {
        waiting: { message: 'there is no ConfigMap later' }
      })
      const later = {
        apiVersion: 'v1',
        kind: 'ConfigMap',
        metadata: { name: 'later', namespace: 'default' },
        data: { A: '1' }
      }
      await client.create(configMaps, later)
      await until('lacks', isReady)
    })

    await t.test('a deleted pod ends at once where it may', async t => {
      t.match(await lab.run('kubectl', 'delete', 'pod', 'lacks'), { code: 0 })
      const { items } = await client.list(labPods, { namespace: 'default' })
      t.notOk(items.some(({ metadata }) => metadata.name === 'lacks'))
    })
  }
)
