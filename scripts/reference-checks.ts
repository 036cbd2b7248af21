/** Prints `docs/reference/checks.md`: `node scripts/reference-checks.ts > docs/reference/checks.md`. */
import { checksReference } from '../cli/check/findings.ts'

process.stdout.write(checksReference())
