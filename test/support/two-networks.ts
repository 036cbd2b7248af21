/** The nodes of `two-nodes.ts` in two networks: a tunnel between them goes through a gateway, and another one inside it. */
import { fakeIssuer } from '../../shared/identity/fake-ca.ts'
import { ip } from '../../shared/net/address.ts'
import { hbonePeer, type HbonePeer } from './hbone-peer.ts'
import { CLIENT, localMesh, SERVER, SERVER_HOST, SERVER_IDENTITY, VIP } from './local-mesh.ts'
import { startControlPlane } from './test-control-plane.ts'
import {
  at,
  connect,
  startProxy,
  twoNodes,
  type Proxy,
  type ProxyOptions,
  type Teardown,
  type TwoNodes
} from './two-nodes.ts'

export const GATEWAY_IP = ip('10.77.0.30')
export const GATEWAY_PORT = 15_809
const GATEWAY_IDENTITY = 'spiffe://cluster.local/ns/istio-system/sa/gateway'
export const GATEWAY_HOST = 'gateway.istio-system.svc.cluster.local'
export const AUTHORITY = `${SERVER_HOST}:80`

export interface NetworkWishes {
  readonly policies?: readonly object[]
  readonly service?: object
  /** The destination as the client's network knows it. */
  readonly remote?: object
  readonly gateway?: object
  /** What each end is. */
  readonly kinds?: { readonly client: ProxyOptions['kind']; readonly server: ProxyOptions['kind'] }
  /** More services of the client's network. */
  readonly services?: readonly object[]
}

export interface TwoNetworks extends TwoNodes {
  readonly client: Proxy
  readonly server: Proxy
  readonly gateway: HbonePeer
}

/** The client in the default network, the server in `far`, whose gateway passes tunnels on without looking inside. */
export async function twoNetworks(t: Teardown, wishes: NetworkWishes = {}): Promise<TwoNetworks> {
  const nodes = await twoNodes(t)
  const { a, b } = nodes
  const gateway = await hbonePeer(t, nodes, {
    identity: GATEWAY_IDENTITY,
    ip: GATEWAY_IP,
    port: GATEWAY_PORT,
    forward: () => connect(b, at(b.v4, 15_008), { captured: false, bind: at(GATEWAY_IP, 0) })
  })
  const gatewayRecord = {
    uid: 'Kubernetes//Pod/istio-system/gateway',
    name: 'gateway',
    namespace: 'istio-system',
    serviceAccount: 'gateway',
    trustDomain: 'cluster.local',
    workloadIps: [GATEWAY_IP],
    protocol: 'HBONE',
    services: {},
    ...wishes.gateway
  }
  const near = localMesh(nodes, {
    server: {
      network: 'far',
      clusterId: 'elsewhere',
      workloadIps: [],
      networkGateway: { destination: `/${GATEWAY_IP}`, hboneMtlsPort: GATEWAY_PORT },
      ...wishes.remote
    },
    service: { subjectAltNames: [SERVER_IDENTITY], ...wishes.service },
    workloads: [gatewayRecord],
    services: wishes.services ?? []
  })
  const far = localMesh(nodes, {
    client: { network: 'default' },
    server: { network: 'far', clusterId: 'elsewhere' },
    service: { vips: [`far/${VIP}`] },
    // In the server's network the gateway's address is known; it must not be taken for the client.
    workloads: [{ ...gatewayRecord, network: 'far' }],
    policies: wishes.policies ?? []
  })
  const { kinds = { client: 'underpass', server: 'underpass' } } = wishes
  // Istio's FAKE_CA has another root than ours.
  const ca = wishes.kinds && (await startControlPlane(t, [a, b], {}, { issuer: fakeIssuer() })).caEnv
  const [client, server] = await Promise.all([
    startProxy(t, a, { kind: kinds.client, localConfig: near, workload: CLIENT, env: { ...ca } }),
    startProxy(t, b, {
      kind: kinds.server,
      localConfig: far,
      workload: SERVER,
      env: { NETWORK: 'far', ...ca }
    })
  ])
  return { ...nodes, client, server, gateway }
}
