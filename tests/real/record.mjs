// Brings the CLIs into the states that the injector must tell apart, and keeps what their terminals showed up to then as
// fixtures/screens/CLI-STATE: `bytes`, `size` (rows, columns) and `expect` (what the injector makes of it, then the picture).
// scripts/record-screen runs it.
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { until } from '../clients/support.mjs';
import { KNOWN } from './clis.mjs';
import { command } from './models.mjs';
import { DIALOG } from './plays.mjs';
import { World, folder, later } from './world.mjs';

const INTO = fileURLToPath(new URL('../../fixtures/screens/', import.meta.url));
const wanted = process.argv.slice(2);
/** The states to keep, if not all. */
const states = process.env.STATES?.split(',');

for (const cli of KNOWN.filter((name) => !wanted.length || wanted.includes(name))) {
  await life(cli, {}, async (world, keep) => {
    await until(() => world.output.length > 0, 'its first output');
    await keep('start', 'away');
    await world.ready();
    await later(1500);
    await keep('idle', 'prompt');
    await world.type('half typed');
    await world.shows(/half typed/);
    await later(500);
    await keep('draft', 'draft');
    for (let at = 0; at < 10; at += 1) {
      await world.type('\x7f');
      await later(30);
    }
    await later(500);
    world.models.pace = { think: 200, tell: 3000, pieces: 12 };
    await world.accepted(await world.send((mark) => `${mark} tell me all.`));
    await world.shows(/part 5/);
    await keep('busy', 'prompt');
  });
  await life(cli, {}, async (world, keep) => {
    await world.ready();
    await world.accepted(await world.send((mark) => `${mark} ${command('touch a-file')} please.`));
    await world.shows(DIALOG);
    await later(700);
    await keep('dialog', 'away');
  });
  await life(cli, { trusted: false }, async (world, keep) => {
    if (['codex', 'opencode'].includes(cli)) return;
    await world.shows(/trust/i);
    await later(1000);
    await keep('trust', 'away');
  });
}

async function life(cli, how, live) {
  const dir = folder();
  const world = await World.begin(cli, { dir, root: process.env.REAL_CLIS, ...how });
  // Whose machine it was is nobody's business.
  const like = (word, length) => word.padEnd(length, '-').slice(0, length);
  const anonymous = (text) => text.replaceAll(dir, like('/home/tester', dir.length))
    .replaceAll(path.basename(dir), like('tester', path.basename(dir).length));
  const keep = async (state, expect) => {
    if (states && !states.includes(state)) return;
    const { screen, rows, cols, cursor, offset } = await world.broker.api('GET', '/api/spawned/agent/snapshot?format=plain');
    const into = path.join(INTO, `${cli}-${state}`);
    fs.mkdirSync(into, { recursive: true });
    // The picture is of so many bytes; the stream may be behind it or ahead.
    const bytes = await until(() => Buffer.byteLength(world.output) >= offset && Buffer.from(world.output).subarray(0, offset), 'the output');
    fs.writeFileSync(path.join(into, 'bytes'), anonymous(bytes.toString('latin1')), 'latin1');
    fs.writeFileSync(path.join(into, 'size'), `${rows} ${cols}\n`);
    fs.writeFileSync(path.join(into, 'expect'), `${expect}\n${anonymous(screen).replace(/\n+$/, '')}\n`);
    console.log(`${cli}-${state}: cursor ${cursor} on ${JSON.stringify(screen.split('\n')[cursor[0] - 1])}`);
  };
  try {
    await live(world, keep);
  } finally {
    await world.end();
    fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 });
  }
}
