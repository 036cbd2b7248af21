/** Waiting for what cannot be cancelled, but not for ever. */
import t from 'tap'
import { inTime } from '../../../shared/runtime/in-time.ts'

t.test('what comes in time counts, with its failures', async t => {
  t.equal(await inTime(Promise.resolve('here'), 60_000, 'late'), 'here')
  await t.rejects(inTime(Promise.reject(new Error('broken')), 60_000, 'late'), { message: 'broken' })
})

t.test('what does not is given up, and may fail later', async t => {
  const answer = Promise.withResolvers<string>()
  await t.rejects(inTime(answer.promise, 1, 'nobody answered'), { message: 'nobody answered' })
  answer.reject(new Error('too late to matter'))
})
