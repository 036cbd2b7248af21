/** Settings of network plug-ins that take the mesh's place in the chain, or bypass its rules. */
import type { ConfigMap } from '../../shared/kube/core-api.ts'
import type { KubeObject } from '../../shared/kube/object.ts'
import { finding, type Finding } from './findings.ts'

export interface FelixConfiguration extends KubeObject {
  readonly spec?: { readonly bpfEnabled?: boolean; readonly bpfConnectTimeLoadBalancing?: string }
}

/** `config` is Cilium's own, ConfigMap cilium-config. */
export function findCiliumSettings(config: ConfigMap | undefined): readonly Finding[] {
  if (config === undefined) return []
  const { data = {}, metadata } = config
  const object = `configmap ${metadata.namespace}/${metadata.name}`
  const isOn = (name: string): boolean => data[name] === 'true'
  const found: Finding[] = []
  // Cilium's own default is to be the only one
  if (data['cni-exclusive'] !== 'false') {
    found.push(finding('UP0007', object, `cni-exclusive is ${data['cni-exclusive'] ?? 'not set, so true'}`))
  }
  if (isOn('enable-bpf-masquerade')) found.push(finding('UP0008', object, 'enable-bpf-masquerade is true'))
  const replaced = isOn('kube-proxy-replacement') || data['kube-proxy-replacement'] === 'strict'
  if ((isOn('bpf-lb-sock') || replaced) && !isOn('bpf-lb-sock-hostns-only')) {
    found.push(finding('UP0009', object, 'the socket load balancer works in pods (bpf-lb-sock-hostns-only)'))
  }
  return found
}

export function findCalicoSettings(configurations: readonly FelixConfiguration[]): readonly Finding[] {
  return configurations
    .filter(({ spec }) => spec?.bpfEnabled === true && spec.bpfConnectTimeLoadBalancing !== 'Disabled')
    .map(({ metadata, spec }) =>
      finding(
        'UP0010',
        `felixconfiguration ${metadata.name}`,
        `bpfEnabled with bpfConnectTimeLoadBalancing ${spec?.bpfConnectTimeLoadBalancing ?? 'not set'}`
      )
    )
}
