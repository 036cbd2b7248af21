/** Objects of every kind that is validated: `good-…` ones, and `bad-…` ones with the field of their error in an annotation. */
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { parseAllYaml } from '../../../shared/kube/yaml.ts'
import type { KubeObject } from '../../../shared/kube/object.ts'

export interface Sample {
  readonly object: KubeObject
  /** `Kind name`. */
  readonly title: string
  readonly good: boolean
  /** Field of the first error; '' for good ones. */
  readonly field: string
}

export function samples(): readonly Sample[] {
  const files = globSync('*.yaml', { cwd: import.meta.dirname }).toSorted()
  return files.flatMap(file =>
    parseAllYaml(readFileSync(path.join(import.meta.dirname, file), 'utf8'), file).map(({ value }) =>
      sampleOf(value as KubeObject)
    )
  )
}

function sampleOf(object: KubeObject): Sample {
  const { name, annotations = {} } = object.metadata
  const field = annotations['test.underpass.dev/field'] ?? ''
  const title = `${object.kind} ${name}`
  const good = name.startsWith('good-')
  if (good !== (field === '')) throw new Error(`${title}: a bad sample names its field, a good one none`)
  return { object, title, good, field }
}
