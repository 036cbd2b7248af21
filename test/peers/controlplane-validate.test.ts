/**
 * Validation beside Istio's: the verdict of `istioctl validate` on every sample, and a real API server that
 * asks the webhook.
 */
import t, { type Test } from 'tap'
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { startApp } from '../../controlplane/app.ts'
import { readConfig } from '../../controlplane/config.ts'
import {
  validatingWebhookConfigurations,
  type ValidatingWebhookConfiguration
} from '../../shared/kube/admission-api.ts'
import { KubeClient } from '../../shared/kube/client.ts'
import { loadKubeConfig } from '../../shared/kube/config.ts'
import { namespaces } from '../../shared/kube/core-api.ts'
import { customResourceDefinitions, publishedDefinitions } from '../../shared/kube/definitions.ts'
import { KubeError } from '../../shared/kube/errors.ts'
import type { KubeObject, ResourceType } from '../../shared/kube/object.ts'
import { stringifyYaml } from '../../shared/kube/yaml.ts'
import { LogOutput } from '../../shared/telemetry/logger.ts'
import { samples, type Sample } from '../controlplane/validate/samples.ts'
import { eventually } from '../support/eventually.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'

t.setTimeout(180_000)

const peers = process.env['UNDERPASS_PEERS'] ?? ''
const istioctl = path.join(peers, 'istioctl')
const needsIstioctl = existsSync(istioctl) ? false : 'needs istioctl in UNDERPASS_PEERS'

t.test('istioctl judges every sample as we do', { skip: needsIstioctl }, async t => {
  const folder = temporary(t)
  const file = path.join(folder, 'samples.yaml')
  writeFileSync(
    file,
    samplesOfIstio()
      .map(({ object }) => stringifyYaml(object))
      .join('---\n')
  )
  const { stdout, stderr } = spawnSync(istioctl, ['validate', '-f', file], { encoding: 'utf8' })
  const refused = new Set(
    [...`${stdout}${stderr}`.matchAll(/([A-Z]\w+)\/shop\/((?:good|bad)-[\w-]+):/g)].map(
      ([, kind, name]) => `${kind} ${name}`
    )
  )
  // Its warnings are not printed when there are errors, so every name in the output is one of a refused object.
  const accepted = spawnSync(istioctl, ['validate', '-f', goodOnly(folder)], { encoding: 'utf8' })
  t.equal(accepted.status, 0, accepted.stdout + accepted.stderr)
  for (const { title, good } of samplesOfIstio())
    if (!good) t.ok(refused.has(title), `istioctl refuses ${title}`)
})

/** Istio's validator knows nothing of our own kinds. */
function samplesOfIstio(): readonly Sample[] {
  return samples().filter(({ object }) => !object.apiVersion.includes('.underpass.dev/'))
}

function goodOnly(folder: string): string {
  const file = path.join(folder, 'good.yaml')
  const good = samplesOfIstio().filter(each => each.good)
  writeFileSync(file, good.map(({ object }) => stringifyYaml(object)).join('---\n'))
  return file
}

t.test('an API server asks the webhook', { skip: needsKubeApiserver() }, async t => {
  const api = await startKubeApiserver(t)
  const client = new KubeClient(await loadKubeConfig({ kubeconfig: api.kubeconfig }))
  t.teardown(() => client.close())
  for (const definition of publishedDefinitions()) await client.create(customResourceDefinitions, definition)
  for (const name of ['istio-system', 'shop']) {
    await client.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  const lines: string[] = []
  const start = async (podName: string): Promise<Awaited<ReturnType<typeof startApp>>> => {
    const { config } = readConfig({
      POD_NAME: podName,
      UNDERPASS_LISTEN: '127.0.0.1',
      UNDERPASS_XDS_PORT: '0',
      UNDERPASS_MONITORING_PORT: '0',
      UNDERPASS_READY_PORT: '0',
      UNDERPASS_WEBHOOK_PORT: '0',
      TERMINATION_DRAIN_DURATION: '100ms',
      ISTIOD_CUSTOM_HOST: '127.0.0.1',
      ROOT_CA_DIR: path.join(temporary(t), 'none')
    })
    const logs = new LogOutput({ ...config.log, sink: { write: line => void lines.push(line) } })
    const app = await startApp({ config, client, logs })
    t.teardown(async () => app.close())
    return app
  }
  const app = await start('one')
  await client.create(validatingWebhookConfigurations, registration(app.addresses.webhook.port))
  const registered = async (): Promise<ValidatingWebhookConfiguration> =>
    client.get(validatingWebhookConfigurations, { name: 'istio-validator-istio-system' })

  await t.test('which is registered with its roots, and fails closed once it was seen to refuse', async t => {
    await eventually(
      'it fails closed',
      async () => (await registered()).webhooks?.[0]?.failurePolicy === 'Fail'
    )
    const caBundle = (await registered()).webhooks?.[0]?.clientConfig.caBundle ?? ''
    t.equal(Buffer.from(caBundle, 'base64').toString(), app.authority.bundlePem)
  })

  await t.test('every sample passes or is refused as it should', async t => {
    let resources: ReadonlyMap<string, ResourceType> = new Map()
    await eventually('every kind is served', async () => {
      resources = await resourceTypes(client)
      return samples().every(({ object }) => resources.has(`${object.apiVersion} ${object.kind}`))
    })
    for (const { object, title, good } of samples()) {
      const type = resources.get(`${object.apiVersion} ${object.kind}`)
      if (type === undefined) {
        t.fail(`the API server has no ${object.apiVersion} ${object.kind}`)
        continue
      }
      const problem = await dryRun(client, type, object)
      t.equal(problem === undefined, good, `${title}: ${problem ?? 'accepted'}`)
    }
    t.match(lines.join(''), /refuses what is invalid/)
  })

  await t.test('a refusal names the field and the remedy; a warning reaches the author', async t => {
    const apply = async (text: string): Promise<string> => {
      // Not a call that blocks: the webhook answers in this process.
      const child = spawn(api.kubectl, ['--kubeconfig', api.kubeconfig, 'apply', '-f', '-'])
      child.stdin.end(text)
      const said = await Promise.all([child.stdout, child.stderr].map(async stream => stream.toArray()))
      return Buffer.concat(said.flat() as Buffer[]).toString()
    }
    const policy = (spec: string): string =>
      `{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: told, namespace: shop}, spec: ${spec}}`
    const refused = await apply(policy('{action: DENY, rules: [{to: [{operation: {ports: ["80-90"]}}]}]}'))
    t.match(refused, /spec\.rules\[0\]\.to\[0\]\.operation\.ports\[0\]: "80-90" is no port; write one number/)
    const warned = await apply(policy('{action: DENY, rules: [{to: [{operation: {methods: ["GET"]}}]}]}'))
    t.match(warned, /Warning: spec\.rules\[0\]: .*name the ports/)
    t.match(warned, /created/)
  })

  await t.test('roots that somebody takes out come back', async t => {
    const { webhooks = [] } = await registered()
    const emptied = webhooks.map(each => ({ ...each, clientConfig: { url: each.clientConfig.url } }))
    const ref = { name: 'istio-validator-istio-system' }
    await client.patch(validatingWebhookConfigurations, ref, { webhooks: emptied }, { kind: 'merge' })
    await eventually(
      'the roots are there again',
      async () => ((await registered()).webhooks?.[0]?.clientConfig.caBundle ?? '') !== ''
    )
    t.equal((await registered()).webhooks?.[0]?.failurePolicy, 'Fail')
  })
})

function registration(port: number): ValidatingWebhookConfiguration {
  return {
    apiVersion: 'admissionregistration.k8s.io/v1',
    kind: 'ValidatingWebhookConfiguration',
    metadata: { name: 'istio-validator-istio-system' },
    webhooks: [
      {
        name: 'validation.istio.io',
        clientConfig: { url: `https://127.0.0.1:${port}/validate` },
        failurePolicy: 'Ignore',
        rules: [
          {
            apiGroups: [
              'security.istio.io',
              'networking.istio.io',
              'telemetry.istio.io',
              'extensions.istio.io',
              'ratelimits.underpass.dev'
            ],
            apiVersions: ['*'],
            operations: ['CREATE', 'UPDATE'],
            resources: ['*']
          }
        ],
        admissionReviewVersions: ['v1'],
        sideEffects: 'None'
      }
    ]
  }
}

async function dryRun(
  client: KubeClient,
  type: ResourceType,
  object: KubeObject
): Promise<string | undefined> {
  try {
    await client.create(type, object, { dryRun: true })
    return undefined
  } catch (error) {
    if (error instanceof KubeError && [400, 403, 422].includes(error.status)) return error.message
    throw error
  }
}

/** By `apiVersion kind`, as the API server says. */
async function resourceTypes(client: KubeClient): Promise<ReadonlyMap<string, ResourceType>> {
  const types = new Map<string, ResourceType>()
  for (const apiVersion of new Set(samples().map(({ object }) => object.apiVersion))) {
    const [group = '', version = ''] = apiVersion.split('/')
    const { resources } = (await client.raw('GET', `/apis/${apiVersion}`)) as {
      resources: readonly { name: string; kind: string }[]
    }
    for (const { name: plural, kind } of resources) {
      if (!plural.includes('/'))
        types.set(`${apiVersion} ${kind}`, { group, version, plural, kind, namespaced: true })
    }
  }
  return types
}

function temporary(t: Test): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'underpass-validate-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
