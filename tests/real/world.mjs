// One agent CLI under our broker, or two: how to write to it as a peer does, to type as a person does, and to see what became
// of it.
import fs from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';

import { register, startBroker, until, workspace } from '../clients/support.mjs';
import { seed } from './clis.mjs';
import { Models, comes } from './models.mjs';

const WebSocket = createRequire(new URL('../clients/package.json', import.meta.url))('ws');

/** How long a message may take, in ms. */
export const PATIENCE = Number(process.env.PATIENCE ?? 60_000);

/** A folder for a world. Gemini CLI takes no settings below one that everybody may write to, as those for temporary files are. */
export function folder() {
  const worlds = path.join(process.env.XDG_CACHE_HOME ?? path.join(os.homedir(), '.cache'), 'relay-broker', 'worlds');
  fs.mkdirSync(worlds, { recursive: true, mode: 0o700 });
  return fs.mkdtempSync(path.join(worlds, 'relay-real-'));
}

export const later = (ms) => new Promise((ok) => { setTimeout(ok, ms); });

let marks = 0;

const usual = (world) => world.spawn('agent', { cli: world.launcher, cwd: world.project });

export class World {
  #ends = [];
  #listeners = new Set();
  /** Every message: `{ mark, text, from, to, id, sentAt, acceptedAt, proof, urgent }`, times in ms. */
  sent = [];
  /** After how many ms each message was heard that interrupted. */
  heardAfter = [];
  /** Events of the broker, as they came. */
  events = [];
  /** All that the terminal showed, escape sequences included. */
  output = '';

  /**
   * Returns as soon as the CLI's process runs. `says`: what the operator says of the program in the configuration file, and
   * `config` of everything else. With `peer` there is a second agent, bob, of the same CLI. `prepare` is done to their
   * folders before, and `begin` starts the first.
   */
  static async begin(cli, { dir, root, trusted = true, says, config = '', peer = false, prepare = () => {}, begin = usual }) {
    const world = new World();
    Object.assign(world, { cli, root, dir, trusted });
    const t = { after: (end) => world.#ends.push(end) };
    try {
      const profile = says ? `[profile.${cli}]\n${says}\n` : '';
      if (profile || config) fs.writeFileSync(path.join(dir, 'relay-broker.toml'), `${profile}${config}`);
      // The CLI is found by its name, too.
      world.broker = await startBroker(t, dir, { name: 'box', env: { PATH: `${path.join(dir, 'bin')}:${process.env.PATH}` } });
      await world.#listen();
      world.relay = workspace(world.broker);
      world.me = (await register(t, world.relay, 'tester')).me;
      Object.assign(world, await world.seed(dir));
      prepare(world);
      await begin(world);
      if (peer) {
        world.peer = await world.seed(path.join(dir, 'peer'));
        prepare(world.peer);
        await world.spawn('bob', { cli: world.peer.launcher, cwd: world.peer.project });
      }
    } catch (error) {
      await world.end();
      throw error;
    }
    return world;
  }

  /** A home for the CLI, with a model behind it that listens to nobody else: `{ models, launcher, project }`. */
  async seed(dir) {
    const models = await Models.start({ toolless: this.cli === 'aider' });
    this.#ends.push(() => models.stop());
    return { models, ...seed(this.cli, { dir, root: this.root, trusted: this.trusted, url: models.url }) };
  }

  async spawn(name, wish) {
    const spawned = await this.broker.api('POST', '/api/spawn', { name, args: [], idle_threshold_secs: 1, ...wish });
    await until(async () => (await this.relay.agents.get(name)).status !== 'offline', `${name} to be online`);
    return spawned;
  }

  /** The model that hears what this agent is told. */
  modelsOf(name) {
    return name === 'bob' ? this.peer.models : this.models;
  }

  async #listen() {
    const socket = new WebSocket(`${this.broker.url.replace('http', 'ws')}/ws`, { headers: { 'x-api-key': this.broker.api_key } });
    this.#ends.push(() => socket.terminate());
    await new Promise((ok, bad) => { socket.once('open', ok).once('error', bad); });
    socket.on('message', (data) => {
      const event = JSON.parse(data);
      if (event.kind === 'worker_stream') {
        this.output += event.chunk;
        return;
      }
      event.at = performance.now();
      this.events.push(event);
      for (const listener of this.#listeners) listener(event);
    });
  }

  async end() {
    for (const end of this.#ends.reverse()) await Promise.resolve().then(end).catch((error) => console.error(String(error)));
  }

  /** Whether an event like that came or comes in time. */
  async heard(wanted, ms = PATIENCE) {
    return this.events.some(wanted) || comes(this.#listeners, wanted, ms);
  }

  ready(name = 'agent') {
    return this.heard((event) => event.kind === 'worker_ready' && event.name === name);
  }

  /** Writes to an agent through the engine, as any peer does; `shape` makes the text, `mode` says whether it interrupts. */
  async send(shape, mode, to = 'agent') {
    const message = this.awaits(shape, { to, urgent: mode === 'steer' });
    message.id = (await this.me.dm(to, message.text, mode && { mode })).id;
    return message;
  }

  /** A message that somebody sends in his own way. */
  awaits(shape, { from = 'tester', to = 'agent', ...more } = {}) {
    marks += 1;
    const mark = `mark${String(marks).padStart(4, '0')}x`;
    const message = { mark, text: shape(mark), from, to, sentAt: performance.now(), ...more };
    this.sent.push(message);
    return message;
  }

  /** Until the broker says that the agent took the message; false if it does not in time. */
  async accepted(message, ms = PATIENCE) {
    const about = (event) => event.kind === 'delivery_verified' && event.event_id === message.id;
    const came = await this.heard(about, ms);
    if (came) {
      const event = this.events.find(about);
      Object.assign(message, { acceptedAt: event.at, proof: event.proof });
    }
    return came;
  }

  /** Until the model was told of the message, and then until it has answered all. */
  async answered(message, ms = PATIENCE) {
    const came = await this.modelsOf(message.to).until((turns) => turns.some((turn) => turn.includes(message.mark)), ms);
    await this.quiet();
    return came;
  }

  /** Until no answer is told, and for a moment more. */
  async quiet() {
    for (let still = 0; still < 4; still += 1) {
      await later(60);
      if (this.models.busy || this.peer?.models.busy) still = 0;
    }
  }

  async screen() {
    return (await this.broker.api('GET', '/api/spawned/agent/snapshot?format=plain')).screen;
  }

  /** As a person at the keyboard. */
  type(data) {
    return this.broker.api('POST', '/api/input/agent', { data });
  }

  /** Until the terminal shows it. */
  shows(pattern, ms = PATIENCE) {
    return until(async () => pattern.test(await this.screen()), `${pattern} on the screen of ${this.cli}`, ms);
  }

  async state() {
    const { agents } = await this.broker.api('GET', '/api/spawned');
    return agents.find(({ name }) => name === 'agent');
  }

  files(name) {
    return path.join(this.project, name);
  }
}
