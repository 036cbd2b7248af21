import t from 'tap'
import { addressOf, startWorld } from './world.ts'

t.test('the admin port tells log levels, changes them and takes them back', async t => {
  const { app } = await startWorld(t, { services: [], pods: [] })
  const ask = async (query: string, method = 'POST'): Promise<string> => {
    const answer = await fetch(`http://${addressOf(app, 'admin')}/logging${query}`, { method })
    return `${answer.status} ${await answer.text()}`
  }
  const start = await ask('')
  t.match(start, /^200 current log level is /)
  t.equal(await ask('?reset&level=xds=trace,error'), '200 current log level is xds=trace,error\n')
  t.equal(await ask('?reset'), start)
  t.match(await ask('', 'GET'), /^405 .*\nusage: POST \/logging/)
})
