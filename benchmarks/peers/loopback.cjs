// Loaded into a Node server that cannot be told an address: where it names a port alone, it listens on loopback.
const { Server } = require("node:net");

const { listen } = Server.prototype;

Server.prototype.listen = function (...given) {
  if (typeof given[0] === "number" && typeof given[1] !== "string") {
    given.splice(1, given[1] === undefined ? 1 : 0, "127.0.0.1");
  }
  return listen.apply(this, given);
};
