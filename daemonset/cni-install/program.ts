/** The plug-in's program in the runtime's folder. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { readIfThere } from '../../shared/runtime/read-if-there.ts'
import { pluginType } from './chain.ts'
import { replaceFile } from './replace-file.ts'

export interface ProgramPlaces {
  /** The folder of the image with the plug-in and its pass-through form. */
  readonly sourceDir: string
  readonly binDir: string
}

const sources = { 'plug-in': pluginType, 'pass-through': `${pluginType}-pass-through` } as const

/**
 * Puts the plug-in, or the form of it that only passes results on, into the runtime's folder; returns whether it was
 * not there. Throws when that cannot be done.
 */
export function copyProgram(places: ProgramPlaces, form: keyof typeof sources): boolean {
  const wanted = readFileSync(path.join(places.sourceDir, sources[form]))
  const target = programPath(places)
  if (readIfThere(target)?.equals(wanted) === true) return false
  replaceFile(target, wanted, 0o755)
  return true
}

/** Whether a plug-in is there that does more than to pass results on. */
export function hasProgram(places: ProgramPlaces): boolean {
  const present = readIfThere(programPath(places))
  if (present === undefined) return false
  return !present.equals(readFileSync(path.join(places.sourceDir, sources['pass-through'])))
}

export function programPath({ binDir }: Pick<ProgramPlaces, 'binDir'>): string {
  return path.join(binDir, pluginType)
}
