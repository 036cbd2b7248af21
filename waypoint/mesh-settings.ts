/** What a waypoint knows of the mesh configuration: its own environment until the control plane says otherwise. */
import { Fields, Problems } from '../shared/mesh/yaml-fields.ts'
import type { ConfigResource } from '../shared/xds/config-resource.ts'
import type { PathNormalization } from './normalize-path.ts'

export interface MeshSettings {
  /** The mesh's own trust domain first, then its aliases. */
  readonly trustDomains: readonly string[]
  readonly pathNormalization: PathNormalization
  /** As they are written. */
  readonly extensionProviders: readonly unknown[]
}

/** Over `own`. Throws an Error that names every field that is wrong. */
export function readMeshSettings({ spec }: ConfigResource, own: MeshSettings): MeshSettings {
  const problems = new Problems()
  const fields = new Fields(spec, 'spec', problems)
  const form = fields.choice(
    'pathNormalization',
    ['DEFAULT', 'NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'],
    'DEFAULT'
  )
  const aliases = fields.list('trustDomainAliases', (value, path) => {
    if (typeof value === 'string' && value !== '') return value
    problems.add(path, 'expected the name of a trust domain')
    return undefined
  })
  const extensionProviders = fields.list('extensionProviders', value => value)
  if (problems.found.length > 0) throw new Error(problems.found.join('; '))
  return {
    trustDomains: [...new Set([...own.trustDomains, ...aliases])],
    pathNormalization: form === 'DEFAULT' ? own.pathNormalization : form,
    extensionProviders
  }
}

/** The settings that are in force; they change as a whole. */
export class CurrentSettings {
  readonly #own: MeshSettings
  #current: MeshSettings

  constructor(own: MeshSettings) {
    this.#own = own
    this.#current = own
  }

  get current(): MeshSettings {
    return this.#current
  }

  put(resource: ConfigResource): void {
    this.#current = readMeshSettings(resource, this.#own)
  }

  reset(): void {
    this.#current = this.#own
  }
}
