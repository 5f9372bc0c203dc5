"""A live RTSP test server: one picture source at /live, as wide and high as told.

usage: rtsp_server.py PORT PATH WIDTH HEIGHT
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer

port, path, width, height = sys.argv[1:]
Gst.init(None)
factory = GstRtspServer.RTSPMediaFactory()
# Motion JPEG needs no encoder beyond the base and good plugin sets; its RTP form (RFC 2435) knows 4:2:0 only.
factory.set_launch(
    "( videotestsrc is-live=true pattern=ball"
    f" ! video/x-raw,format=I420,width={width},height={height},framerate=10/1"
    " ! jpegenc ! rtpjpegpay name=pay0 pt=26 )"
)
factory.set_shared(True)
server = GstRtspServer.RTSPServer()
server.set_address("::")
server.set_service(port)
server.get_mount_points().add_factory(path, factory)
if not server.attach(None):
    sys.exit(f"port {port} cannot be bound")
GLib.MainLoop().run()
