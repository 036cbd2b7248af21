/** Lists in the fields of an object that may not be of any length. */
import type { Fields } from '../shared/mesh/yaml-fields.ts'

/** A list of at most so many entries. */
export function limitedList<T>(
  fields: Fields,
  [name, most]: readonly [name: string, most: number],
  read: (value: unknown, path: string) => T | undefined
): readonly T[] {
  let count = 0
  const items = fields.list(name, (value, path) => (++count > most ? undefined : read(value, path)))
  if (count > most) fields.problems.add(`${fields.path}.${name}`, `has ${count} entries; ${most} is the most`)
  return items
}
