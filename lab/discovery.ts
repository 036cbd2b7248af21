/** Which kinds an API server has and what people call them, from its discovery documents. */
import type { KubeClient } from '../shared/kube/client.ts'
import type { ResourceType } from '../shared/kube/object.ts'

interface ApiResource {
  readonly name: string
  readonly singularName?: string
  readonly kind: string
  readonly namespaced: boolean
  readonly shortNames?: readonly string[]
}

interface Entry extends ResourceType {
  readonly names: readonly string[]
}

export class Discovery {
  readonly #entries: readonly Entry[]

  private constructor(entries: readonly Entry[]) {
    this.#entries = entries
  }

  static async read(client: KubeClient): Promise<Discovery> {
    const core = read(await client.raw('GET', '/api/v1'), '', 'v1')
    const { groups = [] } = (await client.raw('GET', '/apis')) as {
      groups?: readonly {
        name: string
        preferredVersion: { version: string }
        versions: readonly { version: string }[]
      }[]
    }
    const documents = await Promise.all(
      groups.flatMap(({ name, preferredVersion, versions }) => {
        // The preferred version first: a kind without a version means that one.
        const all = [
          preferredVersion,
          ...versions.filter(({ version }) => version !== preferredVersion.version)
        ]
        return all.map(async ({ version }) =>
          read(await client.raw('GET', `/apis/${name}/${version}`), name, version)
        )
      })
    )
    return new Discovery([...core, ...documents.flat()])
  }

  /** By plural, singular, short name or kind, in any case, with or without `.group`; undefined when there is none. */
  find(word: string): ResourceType | undefined {
    const [name = '', ...group] = word.toLowerCase().split('.')
    return this.#entries.find(
      entry => entry.names.includes(name) && (group.length === 0 || entry.group === group.join('.'))
    )
  }

  /** By the fields of an object; undefined when the server does not know the kind. */
  ofObject({
    apiVersion,
    kind
  }: {
    readonly apiVersion: string
    readonly kind: string
  }): ResourceType | undefined {
    const [version = '', group = ''] = apiVersion.split('/').toReversed()
    return this.#entries.find(
      entry => entry.kind === kind && entry.group === group && entry.version === version
    )
  }
}

function read(document: unknown, group: string, version: string): Entry[] {
  const { resources = [] } = document as { resources?: readonly ApiResource[] }
  return resources
    .filter(({ name }) => !name.includes('/'))
    .map(({ name, singularName = '', kind, namespaced, shortNames = [] }) => ({
      group,
      version,
      plural: name,
      kind,
      namespaced,
      names: [name, singularName, kind.toLowerCase(), ...shortNames].filter(Boolean)
    }))
}
