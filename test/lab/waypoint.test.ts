/** A waypoint in the lab: it appears with its Gateway, follows its routes, drains, and goes with its Gateway. */
import t from 'tap'
import path from 'node:path'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { gateways, httpRoutes } from '../../shared/kube/gateway-api.ts'
import type { Condition } from '../../shared/kube/object.ts'
import { rateLimitPolicies } from '../../shared/kube/underpass-api.ts'
import { labDeployments, labPods } from '../../lab/kinds.ts'
import { kubeconfigPath } from '../../lab/state.ts'
import { eventually } from '../support/eventually.ts'
import { LabProcess, remains, users } from './lab-process.ts'

t.setTimeout(300_000)

const manifest = path.join(import.meta.dirname, '../../lab/demo/canary.yaml')
const gatewayLabel = 'gateway.networking.k8s.io/gateway-name=waypoint'

const policy = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: store}
spec:
  targetRefs: [{group: "", kind: Service, name: catalogue}]
  action: DENY
  rules: [{to: [{operation: {paths: [/closed]}}]}]
`

const limits = `apiVersion: ratelimits.underpass.dev/v1alpha1
kind: RateLimitPolicy
metadata: {name: few, namespace: store}
spec:
  targetRefs: [{group: "", kind: Service, name: catalogue}]
  limits: [{requests: 1, per: 1h, match: {paths: [/few]}}]
`

const [chosen] = (await users()).filter(({ skip }) => skip === false)

t.test(
  'layer 7 by a Gateway and an HTTPRoute',
  { skip: chosen === undefined && 'no user can run a lab here' },
  async t => {
    const lab = new LabProcess(t, chosen?.user ?? 'root', ['up', '-f', manifest])
    await lab.printed('ready.')
    const traces = lab.traces()
    const client = new KubeClient(await loadKubeConfig({ kubeconfig: kubeconfigPath(lab.folder) }))
    t.teardown(() => client.close())
    const words = [
      'exec',
      '-n',
      'store',
      'client',
      '--',
      'curl',
      '-sS',
      '-m',
      '5',
      '-w',
      '\nstatus %{http_code}\n'
    ]
    const get = (...more: string[]): ReturnType<typeof lab.run> =>
      lab.run(...words, ...more, 'http://catalogue/')
    const until = (expected: RegExp, ...more: string[]): ReturnType<typeof lab.run> =>
      lab.until(({ stdout }) => expected.test(stdout), ...words, ...more, 'http://catalogue/')
    const waypoints = async (): Promise<readonly string[]> => {
      const { items } = await client.list(labPods, { namespace: 'store', labelSelector: gatewayLabel })
      return items.map(({ metadata }) => metadata.name)
    }
    const logs = async (): Promise<string> => {
      const [name] = await waypoints()
      return String(await client.raw('GET', `/api/v1/namespaces/store/pods/${name}/log`))
    }

    await t.test('requests pass it, whoever asks for the second version gets it', async t => {
      t.match(await until(/"x-request-id"/, '-H', 'x-version: v2'), { code: 0, stdout: /"container": "v2"/ })
    })

    await t.test('the route says in its status that a waypoint enforces it', async t => {
      const route = await client.get(httpRoutes, { namespace: 'store', name: 'catalogue' })
      const conditions = route.status?.parents?.[0]?.conditions?.map(
        ({ type, status }) => `${type} ${status}`
      )
      t.strictSame(conditions, ['Accepted True', 'ResolvedRefs True', 'ResolvedWaypoints True'])
    })

    await t.test('a changed route is followed, and one that is broken answers for itself only', async t => {
      const change = (rules: readonly object[]): Promise<unknown> =>
        client.patch(
          httpRoutes,
          { namespace: 'store', name: 'catalogue' },
          { spec: { rules } },
          { kind: 'merge' }
        )
      await change([
        {
          matches: [{ path: { type: 'PathPrefix', value: '/only' } }],
          backendRefs: [{ name: 'catalogue-v1', port: 80 }]
        }
      ])
      await until(/status 404/)
      t.match(await logs(), / 404 NR route_not_found /)
      await change([{ backendRefs: [{ name: 'catalogue-v3', port: 80 }] }])
      t.match(await until(/status 500/), { code: 0 })
      await eventually('its status says why', async () => {
        const route = await client.get(httpRoutes, { namespace: 'store', name: 'catalogue' })
        const resolved = route.status?.parents?.[0]?.conditions?.find(({ type }) => type === 'ResolvedRefs')
        return resolved?.status === 'False' && resolved.reason === 'BackendNotFound'
      })
      await change([{ backendRefs: [{ name: 'catalogue-v2', port: 80 }] }])
      t.match(await until(/"container": "v2"/), { code: 0 })
    })

    await t.test('a policy for the service refuses by path, and says so', async t => {
      const file = path.join(t.testdir({ 'policy.yaml': policy }), 'policy.yaml')
      t.match(await lab.run('kubectl', 'apply', '-f', file), { code: 0 })
      const closed = [...words, 'http://catalogue/closed']
      t.match(await lab.until(({ stdout }) => /status 403/.test(stdout), ...closed), {
        stdout: /RBAC: access denied/
      })
      t.match(await get(), { stdout: /status 200/ })
      t.match(
        await logs(),
        / 403 - rbac_access_denied_matched_policy\[ns\[store\]-policy\[closed\]-rule\[0\]\] /
      )
      t.match(await lab.run('kubectl', 'delete', '-f', file), { code: 0 })
      await lab.until(({ stdout }) => /status 200/.test(stdout), ...closed)
    })

    await t.test('a RateLimitPolicy limits what it matches, and says that it is carried out', async t => {
      const file = path.join(t.testdir({ 'limits.yaml': limits }), 'limits.yaml')
      t.match(await lab.run('kubectl', 'apply', '-f', file), { code: 0 })
      const few = [...words, 'http://catalogue/few']
      t.match(await lab.until(({ stdout }) => /status 429/.test(stdout), ...few), {
        stdout: /local_rate_limited/
      })
      t.match(await get(), { stdout: /status 200/ })
      await eventually('its status says so', async () => {
        const policy = await client.get(rateLimitPolicies, { namespace: 'store', name: 'few' })
        const { conditions = [] } =
          (policy as { readonly status?: { readonly conditions?: readonly Condition[] } }).status ?? {}
        return conditions.some(({ type, status }) => type === 'WaypointAccepted' && status === 'True')
      })
      t.match(await lab.run('kubectl', 'delete', '-f', file), { code: 0 })
      await lab.until(({ stdout }) => /status 200/.test(stdout), ...few)
    })

    await t.test('it is replaced while requests go on, and none is lost', async t => {
      const before = await waypoints()
      const patch = { spec: { template: { metadata: { annotations: { restarted: 'yes' } } } } }
      await client.patch(labDeployments, { namespace: 'store', name: 'waypoint' }, patch, { kind: 'merge' })
      let requests = 0
      await eventually(
        'another one is there, alone',
        async () => {
          t.match(await get(), { code: 0, stdout: /status 200/ })
          requests += 1
          const now = await waypoints()
          return now.length === 1 && now[0] !== before[0]
        },
        { everyMs: 20 }
      )
      for (let round = 0; round < 5; round += 1) t.match(await get(), { code: 0, stdout: /status 200/ })
      t.comment(`${requests} requests`)
    })

    await t.test('it goes with its Gateway, and requests go on without it', async t => {
      await client.delete(gateways, { namespace: 'store', name: 'waypoint' })
      await eventually('its pod is gone', async () => (await waypoints()).length === 0)
      await lab.until(
        ({ stdout }) => /status 200/.test(stdout) && !stdout.includes('x-request-id'),
        ...words,
        'http://catalogue/'
      )
      t.pass('directly')
    })

    lab.child.kill('SIGINT')
    t.equal((await lab.ended()).code, 0)
    t.strictSame(await remains(traces), [])
  }
)
