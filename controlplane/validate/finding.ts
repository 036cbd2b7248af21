/** What validation says about an object: each finding names the field and what to do about it. */

export interface Finding {
  /** An error refuses the object; a warning is told to its author. */
  readonly severity: 'error' | 'warning'
  /** Path of the field, such as `spec.rules[0].from[1].source.ipBlocks[0]`. */
  readonly field: string
  readonly message: string
  /** What to write instead. */
  readonly remedy: string
}

/** What is wrong with one value; where it stands is for the caller to say. */
export interface Problem {
  readonly message: string
  readonly remedy: string
}

export class Findings {
  readonly #found: Finding[] = []

  get all(): readonly Finding[] {
    return this.#found
  }

  error(field: string, message: string, remedy: string): void {
    this.#found.push({ severity: 'error', field, message, remedy })
  }

  warn(field: string, message: string, remedy: string): void {
    this.#found.push({ severity: 'warning', field, message, remedy })
  }

  /** An error for a value that a rule does not take; nothing when there is no problem. */
  check(field: string, problem: Problem | undefined): void {
    if (problem !== undefined) this.error(field, problem.message, problem.remedy)
  }
}

/** One line for a user: field, what is wrong, what to do. */
export function findingText({ field, message, remedy }: Finding): string {
  return `${field}: ${message}; ${remedy}`
}
