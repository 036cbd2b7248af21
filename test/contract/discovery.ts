/** What clients learn before they act. */
import type { Test } from 'tap'
import type { Context } from './context.ts'

export async function discoveryBehaviours(t: Test, { api }: Context): Promise<void> {
  await t.test('groups, versions and resources are listed', async t => {
    t.match((await api.get('/api')).body, { kind: 'APIVersions', versions: ['v1'] })
    const groups = (await api.get('/apis')).body
    t.match(groups, { kind: 'APIGroupList', apiVersion: 'v1' })
    const apps = groups['groups'].find((group: { name: string }) => group.name === 'apps')
    t.match(apps, { preferredVersion: { groupVersion: 'apps/v1', version: 'v1' } })
    t.match((await api.get('/apis/apps')).body, { kind: 'APIGroup', name: 'apps' })
    const core = (await api.get('/api/v1')).body
    const pods = core['resources'].find((resource: { name: string }) => resource.name === 'pods')
    t.match(pods, {
      singularName: 'pod',
      namespaced: true,
      kind: 'Pod',
      shortNames: ['po'],
      categories: ['all']
    })
    t.ok(pods.verbs.includes('watch'))
    t.ok(core['resources'].some((resource: { name: string }) => resource.name === 'pods/log'))
    t.equal((await api.get('/apis/nothing.example')).status, 404)
  })

  await t.test('all of it comes in one document for those who ask so', async t => {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json'
    for (const path of ['/api', '/apis']) {
      const answer = await api.get(path, { headers: { accept } })
      t.match(answer.body, { kind: 'APIGroupDiscoveryList', apiVersion: 'apidiscovery.k8s.io/v2' })
      t.match(answer.headers['content-type'], /as=APIGroupDiscoveryList/)
    }
    const { body } = await api.get('/apis', { headers: { accept } })
    const apps = body['items'].find((group: { metadata: { name: string } }) => group.metadata.name === 'apps')
    const deployments = apps.versions[0].resources.find(
      (resource: { resource: string }) => resource.resource === 'deployments'
    )
    t.match(deployments, {
      scope: 'Namespaced',
      singularResource: 'deployment',
      responseKind: { kind: 'Deployment' },
      subresources: [{ subresource: 'scale' }, { subresource: 'status' }]
    })
  })

  await t.test('OpenAPI documents describe kinds and what their patches take', async t => {
    const { body } = await api.get('/openapi/v3')
    const url: string = body['paths']['apis/apps/v1'].serverRelativeURL
    t.match(url, /^\/openapi\/v3\/apis\/apps\/v1\?hash=/)
    const document = (await api.get(url)).body
    const schema = document['components'].schemas['io.k8s.api.apps.v1.DeploymentSpec']
    t.match(schema.properties.replicas, { type: 'integer', description: /Number of desired pods/ })
    const patch = document['paths']['/apis/apps/v1/namespaces/{namespace}/deployments/{name}'].patch
    t.match(patch['x-kubernetes-group-version-kind'], { group: 'apps', kind: 'Deployment', version: 'v1' })
    t.ok(patch.parameters.some((parameter: { name: string }) => parameter.name === 'fieldValidation'))
    const swagger = (await api.get('/openapi/v2')).body
    t.match(swagger['definitions']['io.k8s.api.core.v1.Pod'].properties.spec, {
      $ref: '#/definitions/io.k8s.api.core.v1.PodSpec'
    })
  })

  await t.test('health and version are open to everybody', async t => {
    for (const path of ['/healthz', '/livez', '/readyz'])
      t.match(await api.get(path, { token: '' }), { status: 200, text: 'ok' })
    t.match((await api.get('/version', { token: '' })).body, {
      major: '1',
      minor: '36',
      gitVersion: /^v1\.36\./
    })
  })

  await t.test('tables of builtin kinds have the same columns', async t => {
    const expected: Readonly<Record<string, string>> = {
      '/api/v1/pods': 'Name,Ready,Status,Restarts,Age,IP:1,Node:1,Nominated Node:1,Readiness Gates:1',
      '/api/v1/services': 'Name,Type,Cluster-IP,External-IP,Port(s),Age,Selector:1',
      '/api/v1/nodes':
        'Name,Status,Roles,Age,Version,Internal-IP:1,External-IP:1,OS-Image:1,Kernel-Version:1,Container-Runtime:1',
      '/api/v1/namespaces': 'Name,Status,Age',
      '/api/v1/configmaps': 'Name,Data,Age',
      '/api/v1/secrets': 'Name,Type,Data,Age',
      '/api/v1/events':
        'Last Seen,Type,Reason,Object,Subobject:1,Source:1,Message,First Seen:1,Count:1,Name:1',
      '/apis/apps/v1/deployments': 'Name,Ready,Up-to-date,Available,Age,Containers:1,Images:1,Selector:1',
      '/apis/apps/v1/statefulsets': 'Name,Ready,Age,Containers:1,Images:1',
      '/apis/apps/v1/daemonsets':
        'Name,Desired,Current,Ready,Up-to-date,Available,Node Selector,Age,Containers:1,Images:1,Selector:1',
      '/apis/batch/v1/jobs': 'Name,Status,Completions,Duration,Age,Containers:1,Images:1,Selector:1',
      '/apis/discovery.k8s.io/v1/endpointslices': 'Name,AddressType,Ports,Endpoints,Age',
      '/apis/apiextensions.k8s.io/v1/customresourcedefinitions': 'Name,Created At',
      '/apis/rbac.authorization.k8s.io/v1/roles': 'Name,Created At'
    }
    for (const [path, columns] of Object.entries(expected)) {
      const { body } = await api.get(path, {
        headers: { accept: 'application/json;as=Table;v=v1;g=meta.k8s.io' }
      })
      const found = body['columnDefinitions'].map(({ name, priority }: { name: string; priority: number }) =>
        priority === 0 ? name : `${name}:${priority}`
      )
      t.equal(found.join(), columns, path)
    }
  })
}
