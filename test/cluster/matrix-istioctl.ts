/** What the real istioctl shows of our ztunnels, in each form; also its looks at the mesh as a whole. */
import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'
import type { KubeClient } from '../../shared/kube/client.ts'
import * as coreApi from '../../shared/kube/core-api.ts'
import { authorizationPolicies, type AuthorizationPolicy } from '../../shared/kube/istio-api.ts'
import { eventually } from '../support/eventually.ts'
import type { Row } from './matrix-parts.ts'

interface Question {
  readonly words: readonly string[]
  /** What must be in the answer, whatever its form. */
  readonly expect: RegExp
}

const certificate = /spiffe:\/\/cluster\.local\/ns\/shop\/sa\/(client|server)/
/** Asked of each ztunnel; the callers' transfers are the live connections. */
const ofZtunnel: readonly Question[] = [
  { words: ['workload'], expect: /server-2/ },
  { words: ['service'], expect: /server-1/ },
  { words: ['policy'], expect: /matrix/ },
  { words: ['certificate'], expect: certificate },
  { words: ['connections'], expect: /client-[12]/ },
  { words: ['all'], expect: certificate }
]
const forms: readonly (readonly string[])[] = [[], ['-o', 'short'], ['-o', 'json'], ['-o', 'yaml']]

const policy: AuthorizationPolicy = {
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name: 'matrix', namespace: 'shop' },
  spec: { action: 'DENY', rules: [{ from: [{ source: { namespaces: ['market'] } }] }] }
}

/** Resolves to what is wrong. */
export async function askIstioctl(
  client: KubeClient,
  kubeconfig: string,
  { controlPlane }: Row
): Promise<readonly string[]> {
  const problems: string[] = []
  await client.create(authorizationPolicies, policy)
  const ask = async (words: readonly string[], expect: RegExp): Promise<void> => {
    const answer = await istioctl(kubeconfig, words)
    const json = words.at(-1) === 'json'
    if (!expect.test(answer) || (json && !isJson(answer)))
      problems.push(`istioctl ${words.join(' ')}: ${answer.slice(0, 2000)}`)
  }
  const { items } = await client.list(coreApi.pods, {
    namespace: 'istio-system',
    labelSelector: 'app=ztunnel'
  })
  for (const { metadata } of items) {
    const known = async (): Promise<boolean> =>
      /matrix/.test(await istioctl(kubeconfig, ['ztunnel-config', 'policy', `${metadata.name}.istio-system`]))
    await eventually('the policy is known', known)
    const pod = `${metadata.name}.istio-system`
    for (const { words, expect } of ofZtunnel)
      for (const form of forms) await ask(['ztunnel-config', ...words, pod, ...form], expect)
    await ask(['ztunnel-config', 'log', pod, '--level', 'access:debug'], /access.*debug/)
    await ask(['ztunnel-config', 'log', pod, '--level', 'access:info'], /access.*info/)
    const mesh = controlPlane === 'istiod' ? ['--insecure', '--xds-address', 'localhost:15012'] : []
    await ask(['proxy-status', ...mesh], new RegExp(metadata.name))
  }
  await ask(['analyze', '-n', 'shop'], /^(?!.*Error \[)(.*No validation issues found|Info \[)/s)
  // It goes on to look for a sidecar in the pod, and fails, as it does in Istio's own ambient mesh.
  await ask(['experimental', 'describe', 'pod', 'server-1', '-n', 'shop'], /Pod: server-1/)
  await client.delete(authorizationPolicies, policy.metadata)
  return problems
}

/** Resolves to what it prints, also where it fails. */
async function istioctl(kubeconfig: string, words: readonly string[]): Promise<string> {
  const program = path.join(process.env['UNDERPASS_PEERS'] ?? '', 'istioctl')
  try {
    const { stdout, stderr } = await promisify(execFile)(program, ['--kubeconfig', kubeconfig, ...words], {
      maxBuffer: 64 << 20,
      timeout: 30_000
    })
    return stdout.trim() === '' ? stderr : stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    return `${stdout}${stderr}`
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
