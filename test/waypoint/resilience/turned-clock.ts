/** A clock that stands until it is turned. */
import type { Clock } from '../../../shared/runtime/clock.ts'

export class TurnedClock implements Clock {
  /** Milliseconds; some moment, as with the steady clock of a process that has been running. */
  at = 1_234_567

  readonly now = (): number => this.at
}
