/* <step-explorer>: a picture and a sound that follow sliders over precomputed steps. The markup is
   written by sepkit/notebook/explorer.py; this script brings it to life. */
(() => {
  "use strict";
  if (customElements.get("step-explorer")) return;

  // A site keeps the files beside this script, whatever the depth of the page.
  const base = new URL("audio/", document.currentScript.src);

  /** Fetch a file whole, for simple servers cannot seek in one; a page from disk has no fetch. */
  async function whole(address) {
    if (location.protocol === "file:") return address;
    const response = await fetch(address).catch(() => null);
    return response?.ok ? URL.createObjectURL(await response.blob()) : address;
  }

  class StepExplorer extends HTMLElement {
    connectedCallback() {
      if (this.steps) return;
      // With the script in the page's head, the element is met before its content.
      if (document.readyState !== "loading") this.setUp();
      else document.addEventListener("DOMContentLoaded", () => this.setUp(), { once: true });
    }

    setUp() {
      this.sliders = [...this.querySelectorAll(".step-control input")];
      this.steps = [...this.querySelectorAll(".step-data")];
      this.status = this.querySelector(".step-status");
      this.image = this.querySelector(".step-picture");
      this.audio = this.querySelector("audio");
      this.addEventListener("input", () => this.show());
      for (const event of ["focusin", "pointerover"]) {
        this.addEventListener(event, () => this.fetchPictures(), { once: true });
      }
      // The book's theme; elsewhere there is none, and pictures are light.
      this.theme = new MutationObserver(() => this.showPicture());
      this.theme.observe(document.documentElement, { attributeFilter: ["data-theme"] });
      if (document.documentElement.dataset.theme === "dark") this.showPicture();
      if (!this.audio) return;
      this.setSound(this.current);
      this.audio.addEventListener("play", () => {
        // One sound of a page at a time: players listen to this, too.
        document.dispatchEvent(new CustomEvent("sepkit-sound", { detail: this }));
      });
      document.addEventListener("sepkit-sound", ({ detail }) => {
        if (detail !== this) this.audio.pause();
      });
    }

    /** The step where the sliders stand; the last one changes fastest. */
    get current() {
      const index = this.sliders.reduce(
        (sum, { value, max }) => sum * (Number(max) + 1) + Number(value),
        0,
      );
      return this.steps[index];
    }

    show() {
      const settings = this.sliders.map((slider) => {
        const text = JSON.parse(slider.dataset.values)[slider.value];
        slider.setAttribute("aria-valuetext", text);
        const control = slider.closest(".step-control");
        control.querySelector(".step-value").textContent = text;
        return `${control.querySelector(".step-name").textContent}: ${text}`;
      });
      this.showPicture();
      this.status.textContent = `${settings.join(", ")}. ${this.image.alt}`;
      if (this.audio) this.setSound(this.current);
    }

    showPicture() {
      const { width, height, alt } = this.current.dataset;
      Object.assign(this.image, { src: this.address(this.current), alt, width, height });
    }

    /** The picture of a step in the colors of the page. */
    address({ dataset }) {
      const dark = document.documentElement.dataset.theme === "dark";
      return new URL(dark ? dataset.darkPicture : dataset.picture, base);
    }

    /** Go on where the last sound is, be it playing or not. */
    async setSound({ dataset }) {
      const { audio } = this;
      audio.hidden = !dataset.audio;
      if (!dataset.audio) return audio.pause();
      const address = new URL(dataset.audio, base).href;
      if (this.sound === address) return;
      this.sound = address;
      // Nothing is loaded before the first play; afterwards the last sound goes on until the next
      // is here.
      const source = audio.readyState ? await whole(address) : address;
      if (this.sound !== address) return; // the slider has moved on
      const playing = !audio.paused;
      if (audio.readyState) this.position = audio.ended ? 0 : audio.currentTime;
      audio.onloadedmetadata = () => (audio.currentTime = this.position ?? 0);
      if (audio.src.startsWith("blob:")) URL.revokeObjectURL(audio.src);
      audio.src = source;
      // Rejected when the next source stops this one.
      if (playing) audio.play().catch(() => {});
    }

    /** Bring all pictures, so that none is waited for. */
    fetchPictures() {
      this.pictures = this.steps.map((step) => {
        const image = new Image();
        image.src = this.address(step);
        return image;
      });
    }
  }

  customElements.define("step-explorer", StepExplorer);
})();
