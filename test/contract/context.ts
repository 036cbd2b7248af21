/** What a behaviour suite gets: an API server, and a namespace of its own in it. */
import type { Test } from 'tap'
import { Api, type ApiAccess, type Body } from './api.ts'

export interface Context {
  readonly api: Api
  readonly access: ApiAccess & { readonly kubeconfig: string }
  /** A namespace with its default service account. */
  readonly namespace: string
}

export type Suite = (t: Test, context: Context) => Promise<void>

let created = 0

export async function createContext(access: Context['access'], suite: string): Promise<Context> {
  const api = new Api(access)
  created += 1
  const namespace = `${suite}-${process.pid}-${created}`
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } })
  // the real one has no controller here that makes it; ours has made it already
  const account = { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'default' } }
  await api.post(`/api/v1/namespaces/${namespace}/serviceaccounts`, account)
  return { api, access, namespace }
}

export function configMap(name: string, data: Readonly<Record<string, string>>, metadata: object = {}): Body {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, ...metadata }, data }
}

export function pod(name: string, metadata: object = {}, spec: object = {}): Body {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, ...metadata },
    spec: { automountServiceAccountToken: false, containers: [{ name: 'c', image: 'i:1' }], ...spec }
  }
}

export function deployment(name: string, spec: object = {}): Body {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      selector: { matchLabels: { app: name } },
      template: {
        metadata: { labels: { app: name } },
        spec: { containers: [{ name: 'web', image: 'web:1' }] }
      },
      ...spec
    }
  }
}
