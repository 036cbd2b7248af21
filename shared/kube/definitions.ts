/** The definitions of Istio's and the Gateway API's kinds, as published (`crds/README.md`), and of our own. */
import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { parseAllYaml } from './yaml.ts'
import type { Condition, KubeObject, ResourceType } from './object.ts'

export interface CustomResourceDefinition extends KubeObject {
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string; readonly plural: string }
    readonly versions: readonly { readonly name: string; readonly served: boolean }[]
  }
  readonly status?: { readonly conditions?: readonly Condition[] }
}

export const customResourceDefinitions: ResourceType<CustomResourceDefinition> = {
  group: 'apiextensions.k8s.io',
  version: 'v1',
  plural: 'customresourcedefinitions',
  kind: 'CustomResourceDefinition',
  namespaced: false
}

/** Read anew at every call: few programs need them, and those once. */
export function publishedDefinitions(): readonly CustomResourceDefinition[] {
  const others = ['istio', 'gateway-api'].flatMap(name => {
    const bytes = readFileSync(new URL(`crds/${name}.json.gz`, import.meta.url))
    return JSON.parse(gunzipSync(bytes).toString('utf8')) as CustomResourceDefinition[]
  })
  return [...others, ...ownDefinitions()]
}

function ownDefinitions(): readonly CustomResourceDefinition[] {
  const text = readFileSync(new URL('crds/underpass.yaml', import.meta.url), 'utf8')
  return parseAllYaml(text, 'underpass.yaml').map(({ value }) => value as CustomResourceDefinition)
}
