/** The objects that a fresh cluster has before anybody asks for anything: namespaces, nodes, its DNS service. */
import { arch } from 'node:os'
import { endpointSlices, namespaces, nodes, services, type Node } from '../shared/kube/core-api.ts'
import type { KubeObject, ResourceType } from '../shared/kube/object.ts'
import type { ObjectAccess } from './api-store/object-access.ts'
import { kubeTime } from './kinds.ts'
import { fabric, type LabNode } from './nodes.ts'
import { clusterDns } from './pod-files.ts'

export function registerCluster(objects: ObjectAccess, labNodes: readonly LabNode[]): void {
  for (const name of ['default', 'kube-system', 'kube-public', 'kube-node-lease']) {
    ensure(objects, namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } })
  }
  for (const node of labNodes) registerNode(objects, node)
  registerDns(objects)
}

function registerNode(objects: ObjectAccess, node: LabNode): void {
  const now = kubeTime(Date.now())
  const { name, ipv4, ipv6, podCidrs } = node
  ensure(objects, nodes, {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: {
      name,
      labels: {
        'kubernetes.io/hostname': name,
        'kubernetes.io/os': 'linux',
        'kubernetes.io/arch': arch() === 'x64' ? 'amd64' : arch(),
        'topology.kubernetes.io/region': 'lab',
        'topology.kubernetes.io/zone': `lab-${name}`
      }
    },
    spec: { podCIDR: podCidrs[0] ?? '', podCIDRs: podCidrs }
  })
  const status: Node['status'] & object = {
    addresses: [
      { type: 'InternalIP', address: ipv4 },
      ...(ipv6 === undefined ? [] : [{ type: 'InternalIP', address: ipv6 }]),
      { type: 'Hostname', address: name }
    ],
    conditions: [
      {
        type: 'Ready',
        status: 'True',
        reason: 'KubeletReady',
        message: 'a network namespace of this machine',
        lastTransitionTime: now
      }
    ],
    nodeInfo: {
      kubeletVersion: 'v1.36.1+underpass',
      kubeProxyVersion: '',
      containerRuntimeVersion: 'underpass-lab://1',
      operatingSystem: 'linux',
      architecture: arch() === 'x64' ? 'amd64' : arch(),
      osImage: 'this machine',
      kernelVersion: '',
      machineID: '',
      systemUUID: '',
      bootID: ''
    }
  }
  objects.edit(nodes, { name }, current => ({ ...current, status: { ...current.status, ...status } }), {
    subresource: 'status',
    fieldManager: 'kubelet'
  })
}

/** The DNS server is no pod: its endpoint is written by hand, as that of `kubernetes` is. */
function registerDns(objects: ObjectAccess): void {
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' as const },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' as const }
  ]
  ensure(objects, services, {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'kube-dns', namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } },
    spec: { clusterIP: clusterDns, ports: ports.map(port => ({ ...port, targetPort: 53 })) }
  })
  ensure(objects, endpointSlices, {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: 'kube-dns',
      namespace: 'kube-system',
      labels: { 'kubernetes.io/service-name': 'kube-dns' }
    },
    addressType: 'IPv4',
    endpoints: [{ addresses: [fabric.ipv4], conditions: { ready: true } }],
    ports
  })
}

function ensure<T extends KubeObject>(objects: ObjectAccess, type: ResourceType<T>, object: T): void {
  if (objects.get(type, object.metadata) === undefined) objects.create(type, object)
}
