// Makes a component of the service in this folder: `node --input-type=module -e <this> -- <link to it> <output>`.

import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  // Its path is recorded in the component, so it's one that tells nothing about who built it.
  sourcePath: `${process.argv[1]}/service.js`,
  witPath: 'wit',
  worldName: 'service',
  // Without these, nothing of WASI is imported: no clock, no randomness and no network.
  disableFeatures: ['stdio', 'random', 'clocks', 'http', 'fetch-event'],
});
await writeFile(process.argv[2], component);
