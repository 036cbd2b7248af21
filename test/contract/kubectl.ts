/** What people type: a real kubectl against the server. */
import type { Test } from 'tap'
import { execFile, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { Context } from './context.ts'

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const manifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: "web:1", ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red, size: "1"}
`

/** Runs kubectl in the namespace of the context. */
export function kubectlOf(kubectl: string, { access, namespace }: Context, home: string) {
  return async (args: readonly string[], input = ''): Promise<Outcome> =>
    new Promise(resolve => {
      const child = execFile(
        kubectl,
        ['--kubeconfig', access.kubeconfig, '--namespace', namespace, ...args],
        { env: { HOME: home, PATH: '' }, timeout: 60_000, maxBuffer: 64 << 20 },
        (error, stdout, stderr) =>
          resolve({ code: error === null ? 0 : Number(error.code ?? 1), stdout, stderr })
      )
      child.stdin?.end(input)
    })
}

export async function kubectlBehaviours(t: Test, context: Context, program: string): Promise<void> {
  const home = t.testdir({})
  const kubectl = kubectlOf(program, context, home)
  const file = path.join(home, 'app.yaml')
  writeFileSync(file, manifest)
  const lines = (outcome: Outcome): string[] => outcome.stdout.trim().split('\n')

  await t.test('apply creates, leaves alone, changes and prunes', async t => {
    t.strictSame(lines(await kubectl(['apply', '-f', file])), [
      'deployment.apps/web created',
      'service/web created',
      'configmap/settings created'
    ])
    t.strictSame(lines(await kubectl(['apply', '-f', file])), [
      'deployment.apps/web unchanged',
      'service/web unchanged',
      'configmap/settings unchanged'
    ])
    const changed = manifest.replace('web:1', 'web:2').replace('color: red, ', '')
    t.strictSame(lines(await kubectl(['apply', '-f', '-'], changed)), [
      'deployment.apps/web configured',
      'service/web unchanged',
      'configmap/settings configured'
    ])
    t.equal(
      (await kubectl(['get', 'configmap', 'settings', '-o', 'jsonpath={.data}'])).stdout,
      '{"size":"1"}'
    )
    t.equal((await kubectl(['diff', '-f', file, '--server-side=false'])).code !== 0, true)
  })

  await t.test(
    'apply refuses a field that the kind does not have, and a wrong object, before it changes anything',
    async t => {
      const typo = await kubectl(['apply', '-f', '-'], manifest.replace('replicas: 2', 'replica: 2'))
      t.not(typo.code, 0)
      t.match(typo.stderr, /unknown field "spec.replica"/)
      const strange = 'apiVersion: example.org/v1\nkind: Strange\nmetadata: {name: x}\n'
      t.match(
        (await kubectl(['apply', '-f', '-'], strange)).stderr,
        /no matches for kind "Strange" in version "example.org\/v1"/
      )
      const wrong = await kubectl(['apply', '-f', '-'], manifest.replace('port: 80,', 'port: 0,'))
      t.match(
        wrong.stderr,
        /spec\.ports\[0\]\.port: Invalid value: 0: must be between 1 and 65535, inclusive/
      )
    }
  )

  await t.test('apply --server-side takes over from client-side apply and reports conflicts', async t => {
    t.match(
      (await kubectl(['apply', '--server-side', '-f', file])).stdout,
      /deployment.apps\/web serverside-applied/
    )
    const other = await kubectl(
      ['apply', '--server-side', '--field-manager=other', '-f', '-'],
      manifest.replace('web:1', 'web:9')
    )
    t.match(other.stderr, /conflict with "kubectl"/)
    t.match(other.stderr, /\.spec\.template\.spec\.containers\[name="web"\]\.image/)
    const forced = await kubectl(
      ['apply', '--server-side', '--field-manager=other', '--force-conflicts', '-f', '-'],
      manifest.replace('web:1', 'web:9')
    )
    t.equal(forced.code, 0, forced.stderr)
    t.equal(
      (
        await kubectl([
          'get',
          'deployment',
          'web',
          '-o',
          'jsonpath={.spec.template.spec.containers[0].image}'
        ])
      ).stdout,
      'web:9'
    )
  })

  await t.test('get prints tables, names and JSON', async t => {
    const [header = '', row = ''] = lines(await kubectl(['get', 'deploy']))
    t.match(header, /^NAME +READY +UP-TO-DATE +AVAILABLE +AGE$/)
    t.match(row, /^web +0\/2 +0 +0 +\d+s$/)
    t.match(
      (await kubectl(['get', 'svc', 'web', '-o', 'wide'])).stdout,
      /web +ClusterIP +10\.96\.\d+\.\d+ +<none> +80\/TCP +\d+s +app=web/
    )
    t.strictSame(lines(await kubectl(['get', 'deploy,svc,cm', '-l', 'app=web', '-o', 'name'])), [
      'deployment.apps/web'
    ])
    t.match(JSON.parse((await kubectl(['get', 'all', '-o', 'json'])).stdout), {
      kind: 'List',
      items: [{ kind: 'Service' }, { kind: 'Deployment' }]
    })
    t.match((await kubectl(['get', 'pods'])).stderr, /No resources found in .* namespace/)
    t.match((await kubectl(['get', 'pod', 'nothing'])).stderr, /pods "nothing" not found/)
    t.match((await kubectl(['get', 'nonsense'])).stderr, /the server doesn't have a resource type "nonsense"/)
  })

  await t.test('label, annotate, set, scale, patch, edit their objects', async t => {
    t.equal((await kubectl(['label', 'deploy', 'web', 'tier=front'])).stdout, 'deployment.apps/web labeled\n')
    t.match((await kubectl(['label', 'deploy', 'web', 'tier=back'])).stderr, /already has a value/)
    t.equal((await kubectl(['label', '--overwrite', 'deploy', 'web', 'tier=back'])).code, 0)
    t.equal((await kubectl(['label', 'deploy', 'web', 'tier-'])).stdout, 'deployment.apps/web unlabeled\n')
    t.equal((await kubectl(['annotate', 'cm', 'settings', 'note=hello world'])).code, 0)
    t.equal(
      (await kubectl(['scale', 'deploy', 'web', '--replicas=5'])).stdout,
      'deployment.apps/web scaled\n'
    )
    t.equal((await kubectl(['set', 'image', 'deploy/web', 'web=web:7'])).code, 0)
    t.equal(
      (
        await kubectl([
          'patch',
          'deploy',
          'web',
          '-p',
          '{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}'
        ])
      ).code,
      0
    )
    const { stdout } = await kubectl([
      'get',
      'deploy',
      'web',
      '-o',
      'jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env}'
    ])
    t.equal(stdout, '5 web:7 [{"name":"A","value":"1"}]')
    t.equal((await kubectl(['rollout', 'restart', 'deploy/web'])).stdout, 'deployment.apps/web restarted\n')
  })

  await t.test('create makes the kinds that have a short form', async t => {
    for (const args of [
      ['configmap', 'c', '--from-literal=a=b'],
      ['secret', 'generic', 's', '--from-literal=a=b'],
      ['serviceaccount', 'worker'],
      ['deployment', 'd', '--image=i', '--replicas=0'],
      ['job', 'j', '--image=i'],
      ['cronjob', 'cj', '--image=i', '--schedule=* * * * *'],
      ['role', 'r', '--verb=get', '--resource=pods'],
      ['rolebinding', 'rb', '--role=r', '--serviceaccount=x:y'],
      ['service', 'clusterip', 'cip', '--tcp=80:80'],
      ['poddisruptionbudget', 'pdb', '--selector=a=b', '--min-available=1']
    ]) {
      const outcome = await kubectl(['create', ...args])
      t.equal(outcome.code, 0, `create ${args.join(' ')} ${outcome.stderr}`)
    }
    t.equal((await kubectl(['get', 'deploy', 'd', '-o', 'jsonpath={.spec.replicas}'])).stdout, '0')
    t.match(
      (await kubectl(['create', 'token', 'worker', '--audience=istio-ca', '--duration=15m'])).stdout,
      /^eyJ/
    )
    t.equal((await kubectl(['auth', 'can-i', 'delete', 'pods'])).stdout, 'yes\n')
    t.equal((await kubectl(['expose', 'deploy', 'd', '--port=80', '--name=dx'])).code, 0)
    t.equal((await kubectl(['run', 'p', '--image=i', '--labels=run=p'])).stdout, 'pod/p created\n')
  })

  await t.test('wait and rollout status see conditions come', async t => {
    const waiting = kubectl(['wait', '--for=condition=Ready', 'pod/p', '--timeout=30s'])
    const rollout = kubectl(['rollout', 'status', 'deploy/web', '--timeout=30s'])
    const status = { phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] }
    t.equal(
      (
        await kubectl([
          'patch',
          'pod',
          'p',
          '--subresource=status',
          '--type=merge',
          '-p',
          JSON.stringify({ status })
        ])
      ).code,
      0
    )
    t.equal((await waiting).stdout, 'pod/p condition met\n')
    const { generation } = JSON.parse(
      (await kubectl(['get', 'deploy', 'web', '-o', 'jsonpath={.metadata}'])).stdout
    ) as { generation: number }
    const done = {
      observedGeneration: generation,
      replicas: 5,
      updatedReplicas: 5,
      readyReplicas: 5,
      availableReplicas: 5
    }
    await kubectl([
      'patch',
      'deploy',
      'web',
      '--subresource=status',
      '--type=merge',
      '-p',
      JSON.stringify({ status: done })
    ])
    t.match((await rollout).stdout, /deployment "web" successfully rolled out/)
    t.equal(
      (await kubectl(['wait', '--for=jsonpath={.status.readyReplicas}=5', 'deploy/web', '--timeout=10s']))
        .code,
      0
    )
  })

  await t.test('get --watch follows', async t => {
    await kubectl(['create', 'cm', 'watched', '--from-literal=a=1'])
    const args = ['get', 'cm', 'watched', '--watch', '-o', 'jsonpath={.data.a};']
    const child = spawn(
      program,
      ['--kubeconfig', context.access.kubeconfig, '-n', context.namespace, ...args],
      {
        env: { HOME: home },
        stdio: ['ignore', 'pipe', 'ignore']
      }
    )
    t.teardown(() => child.kill('SIGKILL'))
    let seen = ''
    const until = async (text: string): Promise<void> => {
      for await (const chunk of child.stdout as AsyncIterable<Buffer>) {
        seen += chunk.toString()
        if (seen.includes(text)) return
      }
    }
    child.stdout.on('error', () => undefined)
    const both = until('2;')
    for (let attempt = 0; attempt < 200 && !seen.includes('1;'); attempt += 1) await delay(50)
    await kubectl(['patch', 'cm', 'watched', '--type=merge', '-p', '{"data":{"a":"2"}}'])
    await both
    t.equal(seen, '1;2;')
  })

  await t.test('explain, describe, api-resources and events read the descriptions', async t => {
    t.match((await kubectl(['explain', 'deployment.spec.replicas'])).stdout, /FIELD: replicas <integer>/)
    t.match((await kubectl(['explain', 'pod', '--recursive'])).stdout, /containerPort/)
    t.match((await kubectl(['api-resources', '--api-group=apps', '-o', 'name'])).stdout, /deployments\.apps/)
    const described = await kubectl(['describe', 'deploy', 'web'])
    t.match(described.stdout, /Replicas: +5 desired/)
    t.match((await kubectl(['version'])).stdout, /Server Version: v1\.36/)
    t.equal((await kubectl(['events'])).code, 0)
  })

  await t.test('delete removes by name, selector and file', async t => {
    t.match((await kubectl(['delete', 'pod', 'p'])).stdout, /pod "p" deleted/)
    t.match((await kubectl(['delete', 'cm', '-l', 'nothing=here'])).stdout, /No resources found/)
    t.equal(lines(await kubectl(['delete', '-f', file, '--cascade=background'])).length, 3)
    t.match((await kubectl(['delete', 'cm', 'settings'])).stderr, /configmaps "settings" not found/)
    t.equal((await kubectl(['delete', 'cm', 'settings', '--ignore-not-found'])).code, 0)
  })
}
