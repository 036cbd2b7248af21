/** The two workloads of `local-mesh.ts` as Workload API messages, for `test-control-plane.ts`. */
import { ip, ipToBytes } from '../../shared/net/address.ts'
import { SERVER_HOST, SERVER_PORT, VIP, VIP6 } from './local-mesh.ts'
import type { TestResources } from './test-control-plane.ts'
import type { TestNode } from './two-nodes.ts'

export function wireMesh({ a, b }: { a: TestNode; b: TestNode }): TestResources {
  return {
    addresses: {
      'Kubernetes//Pod/default/client': { workload: wireWorkload('client', 'default', a) },
      'Kubernetes//Pod/shop/server': {
        workload: {
          ...wireWorkload('server', 'shop', b),
          services: { [`shop/${SERVER_HOST}`]: { ports: [{ servicePort: 80, targetPort: SERVER_PORT }] } }
        }
      },
      [`shop/${SERVER_HOST}`]: {
        service: {
          name: 'server',
          namespace: 'shop',
          hostname: SERVER_HOST,
          canonical: true,
          addresses: [{ address: ipToBytes(ip(VIP)) }, { address: ipToBytes(ip(VIP6)) }],
          ports: [{ servicePort: 80, targetPort: SERVER_PORT }]
        }
      }
    }
  }
}

export function wireWorkload(name: string, namespace: string, node: TestNode): object {
  return {
    uid: `Kubernetes//Pod/${namespace}/${name}`,
    name,
    namespace,
    serviceAccount: name,
    addresses: [ipToBytes(node.v4), ipToBytes(node.v6)],
    tunnelProtocol: 1,
    node: node.name,
    workloadName: `${name}-deployment`,
    canonicalName: `${name}-app`,
    canonicalRevision: 'v1'
  }
}

/** A DENY policy of the server's namespace with one match. */
export function wireDeny(name: string, match: object): object {
  return { name, namespace: 'shop', scope: 1, action: 1, rules: [{ clauses: [{ matches: [match] }] }] }
}
