/** What a container runtime does with the mesh's CNI plug-in: tells the node agent of a new pod before it starts. */
import http from 'node:http'
import type { Labels } from '../shared/kube/object.ts'
import { ipFamily, ipToBytes, type Ip } from '../shared/net/address.ts'
import type { LabPod } from './kinds.ts'

export interface CniPod {
  readonly namespace: string
  readonly name: string
  /** Path of its network namespace. */
  readonly netns: string
  readonly ips: readonly Ip[]
}

const timeoutMs = 5000
/** Namespaces that the plug-in leaves alone, by Istio's default. */
const excludedNamespaces = new Set(['kube-system'])

/** Whether the plug-in asks the agent about this pod at all. Source: Istio's default enablement selectors. */
export function isEnrolled(pod: LabPod, namespaceLabels: Labels): boolean {
  const { labels = {}, annotations = {}, namespace = '' } = pod.metadata
  if (pod.spec?.hostNetwork === true || excludedNamespaces.has(namespace)) return false
  if (annotations['sidecar.istio.io/status'] !== undefined) return false
  const mode = labels['istio.io/dataplane-mode']
  return mode === 'ambient' || (mode !== 'none' && namespaceLabels['istio.io/dataplane-mode'] === 'ambient')
}

/** ADD: resolves when the agent has written the pod's rules; rejects with the agent's reason. */
export function cniAdd(socketPath: string, pod: CniPod): Promise<void> {
  const body = JSON.stringify({
    Netns: pod.netns,
    PodName: pod.name,
    PodNamespace: pod.namespace,
    IPs: pod.ips.map(address => ({
      Interface: 0,
      // As Go writes a net.IPNet: the mask is base64.
      Address: { IP: address, Mask: Buffer.alloc(ipToBytes(address).length, 0xff).toString('base64') },
      Gateway: ipFamily(address) === 4 ? '0.0.0.0' : '::'
    }))
  })
  return new Promise((resolve, reject) => {
    const request = http.request(
      {
        socketPath,
        method: 'POST',
        path: '/cmdadd',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        timeout: timeoutMs
      },
      response => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text = (text + chunk).slice(0, 4096)
        })
        response.on('end', () => {
          if (response.statusCode === 200) resolve()
          else reject(new Error(`the node agent refused the pod: ${text.trim() || response.statusCode}`))
        })
      }
    )
    request.on('timeout', () => request.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)))
    request.on('error', error =>
      reject(new Error(`the node agent cannot be asked: ${error.message}`, { cause: error }))
    )
    request.end(body)
  })
}
