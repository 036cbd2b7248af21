/** The part of Istio's ProxyConfig that ztunnel reads. Source: istio.mesh.v1alpha1.ProxyConfig. */
import { messageOf } from '../shared/runtime/errors.ts'

export interface ProxyConfig {
  readonly discoveryAddress?: string
  readonly proxyAdminPort?: number
  readonly statsPort?: number
  readonly concurrency?: number
  readonly proxyMetadata: Readonly<Record<string, string>>
}

interface ProxyConfigSources {
  /** The text of PROXY_CONFIG. */
  readonly inline: string | undefined
  /** The text of the mesh configuration file, whose `defaultConfig` is used. */
  readonly file: string | undefined
  readonly onProblem: (text: string) => void
}

/** What `inline` says wins, key by key, over what `file` says. Unknown keys are Envoy's business and ignored. */
export async function readProxyConfig({ inline, file, onProblem }: ProxyConfigSources): Promise<ProxyConfig> {
  const fromFile = asRecord(asRecord(await parsed('mesh configuration', file, onProblem))['defaultConfig'])
  const fromInline = asRecord(await parsed('PROXY_CONFIG', inline, onProblem))
  const merged: Record<string, unknown> = { ...fromFile, ...fromInline }
  const problem = (key: string, wanted: string): void =>
    onProblem(`PROXY_CONFIG: ${key} is ${JSON.stringify(merged[key])}: expected ${wanted}`)
  const number = (key: string, max: number): number | undefined => {
    const value = merged[key]
    if (value === undefined || value === null) return undefined
    if (Number.isInteger(value) && (value as number) >= 0 && (value as number) <= max) return value as number
    problem(key, `a whole number up to ${max}`)
    return undefined
  }
  const discoveryAddress = merged['discoveryAddress'] ?? undefined
  if (discoveryAddress !== undefined && typeof discoveryAddress !== 'string')
    problem('discoveryAddress', 'text')
  const proxyMetadata = Object.fromEntries(
    Object.entries({ ...asRecord(fromFile['proxyMetadata']), ...asRecord(fromInline['proxyMetadata']) }).map(
      ([key, value]) => [key, String(value)]
    )
  )
  return {
    ...(typeof discoveryAddress === 'string' && { discoveryAddress }),
    ...present('proxyAdminPort', number('proxyAdminPort', 65_535)),
    ...present('statsPort', number('statsPort', 65_535)),
    ...present('concurrency', number('concurrency', 1024)),
    proxyMetadata
  }
}

function present<K extends string>(key: K, value: number | undefined): Partial<Record<K, number>> {
  return value === undefined ? {} : ({ [key]: value } as Record<K, number>)
}

async function parsed(
  name: string,
  text: string | undefined,
  onProblem: (text: string) => void
): Promise<unknown> {
  if (text === undefined || text.trim() === '') return undefined
  const { parseYaml } = await import('../shared/kube/yaml.ts') // most configurations need no YAML reader
  try {
    return parseYaml(text, name)
  } catch (error) {
    onProblem(messageOf(error))
    return undefined
  }
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : {}
}
