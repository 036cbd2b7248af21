/** The files of /etc that a pod has of its own, as the kubelet writes them. Pure. */
import type { Ip } from '../shared/net/address.ts'
import { namespaceOf, type LabPod } from './kinds.ts'

export const clusterDns = '10.96.0.10'
export const clusterDomain = 'cluster.local'

export function resolvConf(pod: LabPod): string {
  const { dnsPolicy = 'ClusterFirst', dnsConfig = {}, hostNetwork = false } = pod.spec ?? {}
  const inCluster = dnsPolicy === 'ClusterFirstWithHostNet' || (dnsPolicy === 'ClusterFirst' && !hostNetwork)
  const namespace = namespaceOf(pod)
  // The cluster's DNS also plays the node's resolver: without --internet there is no other.
  const servers = [...(dnsPolicy === 'None' ? [] : [clusterDns]), ...(dnsConfig.nameservers ?? [])]
  const own = [`${namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain]
  const searches = [...(inCluster ? own : []), ...(dnsConfig.searches ?? [])]
  const options = [
    ...(inCluster ? ['ndots:5'] : []),
    ...(dnsConfig.options ?? []).map(({ name, value }) => (value === undefined ? name : `${name}:${value}`))
  ]
  return [
    ...servers.slice(0, 3).map(server => `nameserver ${server}`),
    ...(searches.length === 0 ? [] : [`search ${searches.join(' ')}`]),
    ...(options.length === 0 ? [] : [`options ${options.join(' ')}`]),
    ''
  ].join('\n')
}

export function hostsFile(pod: LabPod, ips: readonly Ip[]): string {
  const { hostname = pod.metadata.name, subdomain, hostAliases = [] } = pod.spec ?? {}
  const domain = subdomain === undefined ? undefined : `${subdomain}.${namespaceOf(pod)}.svc.${clusterDomain}`
  const names = domain === undefined ? hostname : `${hostname}.${domain} ${hostname}`
  return [
    '127.0.0.1 localhost',
    '::1 localhost ip6-localhost ip6-loopback',
    ...ips.map(address => `${address} ${names}`),
    ...hostAliases.map(({ ip, hostnames = [] }) => `${ip} ${hostnames.join(' ')}`),
    ''
  ].join('\n')
}
