/** The applications of the matrix: callers and servers on both nodes, in and out of the mesh. */
import path from 'node:path'
import type { KubeObject } from '../../shared/kube/object.ts'
import { podProgram } from '../support/pod-program.ts'
import { catalogAddress, catalogName, type PodName } from './matrix-cases.ts'

interface Place {
  readonly namespace: string
  readonly account: string
  readonly node: 'node1' | 'node2'
  readonly caller: boolean
}

export const places: Readonly<Record<PodName, Place>> = {
  'client-1': { namespace: 'shop', account: 'client', node: 'node1', caller: true },
  'client-2': { namespace: 'shop', account: 'client', node: 'node2', caller: true },
  'server-1': { namespace: 'shop', account: 'server', node: 'node1', caller: false },
  'server-2': { namespace: 'shop', account: 'server', node: 'node2', caller: false },
  guest: { namespace: 'market', account: 'guest', node: 'node2', caller: true },
  outsider: { namespace: 'outside', account: 'outsider', node: 'node1', caller: true }
}

export const podNames = Object.keys(places) as PodName[]
export const namespaces = ['shop', 'market', 'outside']

/** Namespaces, accounts and Services: they stay from row to row. */
export function lastingObjects(): KubeObject[] {
  return [
    ...namespaces.map(name =>
      object('v1', 'Namespace', name, undefined, {
        labels: name === 'outside' ? {} : { 'istio.io/dataplane-mode': 'ambient' }
      })
    ),
    ...['client', 'server'].map(name => object('v1', 'ServiceAccount', name, 'shop')),
    object('v1', 'ServiceAccount', 'guest', 'market'),
    object('v1', 'ServiceAccount', 'outsider', 'outside'),
    ...podNames.map(name => service(name, places[name].namespace, { pod: name })),
    service('server', 'shop', { app: 'server' }),
    service('peers', 'shop', { app: 'server' }, 'None')
  ]
}

/** The pods, made anew for each row. */
export function podObjects(): KubeObject[] {
  return podNames.map(name => {
    const { namespace, account, node, caller: calls } = places[name]
    const echo = {
      name: 'app',
      image: 'cluster.local/echo:1',
      imagePullPolicy: 'Never',
      args: ['--port', '8080', '--port', '8081', '--tcp', '9090', '--grpc', '7070']
    }
    return object('v1', 'Pod', name, namespace, {
      labels: { app: account, pod: name },
      spec: {
        serviceAccountName: account,
        automountServiceAccountToken: false,
        nodeName: node,
        hostname: name,
        ...(account === 'server' ? { subdomain: 'peers' } : {}),
        terminationGracePeriodSeconds: 0,
        containers: [echo, ...(calls ? [callerContainer()] : [])]
      }
    })
  })
}

/** An address and a name that only the mesh knows; needs the definitions of the mesh's own kinds. */
export function catalog(): KubeObject {
  return object('networking.istio.io/v1', 'ServiceEntry', 'catalog', 'shop', {
    spec: {
      hosts: [catalogName],
      addresses: [catalogAddress],
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      ports: [{ number: 80, name: 'http', protocol: 'HTTP', targetPort: 8080 }],
      workloadSelector: { labels: { pod: 'server-2' } }
    }
  })
}

function callerContainer(): object {
  return {
    name: 'caller',
    stdin: true,
    ...podProgram(path.join(import.meta.dirname, 'matrix-caller.ts'))
  }
}

function service(
  name: string,
  namespace: string,
  selector: Readonly<Record<string, string>>,
  clusterIP?: 'None'
): KubeObject {
  const ports =
    clusterIP === 'None'
      ? [{ name: 'http', port: 8080 }]
      : [
          { name: 'http', port: 80, targetPort: 8080 },
          { name: 'http-second', port: 81, targetPort: 8081 }
        ]
  return object('v1', 'Service', name, namespace, {
    spec: { selector, ports, ...(clusterIP === undefined ? {} : { clusterIP }) }
  })
}

function object(
  apiVersion: string,
  kind: string,
  name: string,
  namespace: string | undefined,
  { labels = {}, ...rest }: { labels?: Readonly<Record<string, string>>; spec?: object } = {}
): KubeObject {
  const metadata = { name, labels, ...(namespace === undefined ? {} : { namespace }) }
  return { apiVersion, kind, metadata, ...rest }
}
