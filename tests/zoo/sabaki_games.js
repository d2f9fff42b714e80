// Drives two engines through a whole game with Sabaki's GTP controller, and writes what was answered as JSON.
// node sabaki_games.js <module> <size> <komi> <seed> <command> [arguments]
const [modulePath, size, komi, seed, command, ...args] = process.argv.slice(2)
const {Controller} = require(modulePath)

async function ask(engine, name, ...args) {
  const response = await engine.sendCommand({name, args: args.map(String)})
  return {error: response.error, content: response.content}
}

async function main() {
  const engines = [0, 1].map(i => new Controller(command, [...args, '--seed', String(Number(seed) + i)]))
  const out = {moves: [], refused: []}
  for (const engine of engines) {
    engine.start()
    out.commands = (await ask(engine, 'list_commands')).content.split('\n')
    for (const [name, ...rest] of [['boardsize', size], ['clear_board'], ['komi', komi]]) await ask(engine, name, ...rest)
  }
  let passes = 0
  for (let ply = 0; passes < 2 && ply < 400; ply++) {
    const colour = 'BW'[ply % 2]
    const vertex = (await ask(engines[ply % 2], 'genmove', colour)).content.trim()
    const told = await ask(engines[1 - ply % 2], 'play', colour, vertex)
    if (told.error) out.refused.push([colour, vertex])
    out.moves.push([colour, vertex])
    passes = vertex === 'pass' ? passes + 1 : 0
  }
  out.scores = await Promise.all(engines.map(engine => ask(engine, 'final_score')))
  // both colours pass once more and take it back; commands that wait for one another are answered in their order
  out.after = await Promise.all(
    [['play', 'W', 'pass'], ['play', 'B', 'pass'], ['undo'], ['undo'], ['final_score'], ['nonsense'], ['komi', 'nan']].map(
      ([name, ...rest]) => ask(engines[0], name, ...rest)
    )
  )
  await Promise.all(engines.map(engine => engine.stop()))
  console.log(JSON.stringify(out))
}

main().catch(error => { console.error(error); process.exit(1) })
