/** The data files of the API store are what Kubernetes, Istio and the Gateway API publish. */
import t from 'tap'
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { builtinResources } from '../../lab/api-store/builtin/resources.ts'
import { bundledDefinitions } from '../../lab/api-store/custom-resources.ts'
import { loadBuiltinSchemas } from '../../lab/api-store/schema/schema.ts'
import { parseAllYaml } from '../../shared/kube/yaml.ts'
import { needsKubeApiserver, startKubeApiserver } from '../support/kube-apiserver.ts'
import { Api } from './api.ts'

const published = path.join(process.env['UNDERPASS_CLUSTER'] ?? '', 'crds.yaml.xz')
const needsPublished =
  process.env['UNDERPASS_CLUSTER'] !== undefined && existsSync(published)
    ? false
    : 'needs crds.yaml.xz in UNDERPASS_CLUSTER'

t.test('the bundled definitions are the published ones, unchanged', { skip: needsPublished }, async t => {
  const text = execFileSync('xz', ['-dc', published], { encoding: 'utf8', maxBuffer: 64 << 20 })
  // two published files, one behind the other, without a separator between them
  const definitions = parseAllYaml(text.replace('\n# Generated with', '\n---\n# Generated with'))
    .map(({ value }) => value as { kind?: string; metadata: { name: string } })
    .filter(({ kind }) => kind === 'CustomResourceDefinition')
  const byName = new Map(definitions.map(definition => [definition.metadata.name, definition]))
  const all = bundledDefinitions() as readonly { metadata: { name: string } }[]
  const bundled = all.filter(({ metadata }) => !metadata.name.endsWith('.underpass.dev'))
  t.equal(bundled.length, byName.size, 'none is missing')
  for (const definition of bundled)
    t.same(definition, byName.get(definition.metadata.name), definition.metadata.name)
})

t.test('schemas and resources are those of the real server', { skip: needsKubeApiserver() }, async t => {
  const access = await startKubeApiserver(t)
  const api = new Api(access)
  t.teardown(() => api.close())
  const { paths } = (await api.get('/openapi/v3')).body as {
    paths: Record<string, { serverRelativeURL: string }>
  }
  const real: Record<string, unknown> = {}
  for (const { serverRelativeURL } of Object.values(paths)) {
    Object.assign(real, (await api.get(serverRelativeURL)).body['components']?.schemas ?? {})
  }
  t.same(loadBuiltinSchemas(), real)

  const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList'
  const served = new Map<
    string,
    {
      scope: string
      shortNames?: string[]
      categories?: string[]
      responseKind: { kind: string }
      subresources?: { subresource: string }[]
    }
  >()
  for (const document of ['/api', '/apis']) {
    const { items } = (await api.get(document, { headers: { accept } })).body as {
      items: {
        metadata: { name?: string }
        versions: { version: string; resources: { resource: string }[] }[]
      }[]
    }
    for (const { metadata, versions } of items) {
      for (const { version, resources } of versions) {
        for (const resource of resources)
          served.set(`${metadata.name ?? ''}/${version}/${resource.resource}`, resource as never)
      }
    }
  }
  for (const row of builtinResources) {
    const name = `${row.group}/${row.version ?? 'v1'}/${row.plural}`
    const found = served.get(name)
    t.strictSame(
      { kind: row.kind, namespaced: row.namespaced, shortNames: row.shortNames, categories: row.categories },
      {
        kind: found?.responseKind.kind,
        namespaced: found?.scope === 'Namespaced',
        shortNames: found?.shortNames,
        categories: found?.categories
      },
      name
    )
    const subresources = found?.subresources?.map(({ subresource }) => subresource) ?? []
    t.ok(
      (row.subresources ?? []).every(part => subresources.includes(part)),
      `${name} has its sub-resources`
    )
  }
})
