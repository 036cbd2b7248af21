/** `npm run demo`: the tour of the lab as a program of its own. */
process.argv.splice(2, 0, 'demo')
await import('./main.ts')
